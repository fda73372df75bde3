//! Who vouches for whom: front proxies for users, roles that somebody damaged for everybody, tokens for accounts as long
//! as what they are bound to is there; and one pass of ordinary requests as each sort of user.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::rest::{Answer, As};
use crate::support::said::said;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const QUESTION: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

#[test]
fn what_is_vouched_for_counts_and_nothing_else() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start_as("server", dir.join("data"), &[]);
        front_proxies_say_who_asks(&cluster, dir);
        tokens_are_for_whom_they_name(&cluster);
        tokens_end_with_what_they_are_bound_to(&cluster);
        each_sort_of_user_may_what_is_theirs(&cluster, dir);
        damaged_roles_are_mended_at_the_next_start(&mut cluster);
    });
}

/// A certificate `NAME.crt` with its key, signed by that authority of the cluster's (`pki/AUTHORITY.crt`).
fn certified(
    cluster: &Cluster,
    dir: &Path,
    name: &str,
    subject: &str,
    authority: &str,
) -> (PathBuf, PathBuf) {
    let authority = cluster.dir.join("pki").join(authority);
    let line = format!(
        "printf 'extendedKeyUsage=clientAuth' > usage && \
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '{subject}' \
         -keyout {name}.key -out {name}.csr && \
         openssl x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial \
         -CAserial serial -days 2 -extfile usage -out {name}.crt",
        authority = authority.display()
    );
    let made = Command::new("sh").args(["-c", &line]).current_dir(dir).output();
    said(made.expect("openssl")).expect("a certificate");
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

fn whoami(cluster: &Cluster, who: &As) -> Answer {
    cluster.call(who, "POST", WHOAMI, "application/json", QUESTION)
}

fn front_proxies_say_who_asks(cluster: &Cluster, dir: &Path) {
    let headers = [
        "X-Remote-User: jane",
        "X-Remote-Uid: 42",
        "X-Remote-Group: dev",
        "X-Remote-Group: ops",
        "X-Remote-Extra-Acme.com%2Fproject: harbour",
    ];
    let (crt, key) = certified(cluster, dir, "proxy", "/CN=front-proxy-client", "front-proxy-ca");
    let told = whoami(cluster, &As::Certificate(&crt, &key, &headers));
    assert_eq!(told.code, 201, "{}", told.body);
    let user = &told.body["status"]["userInfo"];
    assert_eq!((&user["username"], &user["uid"]), (&json!("jane"), &json!("42")));
    assert_eq!(user["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!(user["extra"]["acme.com/project"], json!(["harbour"]));
    // It is nobody itself, and neither is somebody else whom that authority has certified.
    assert_eq!(whoami(cluster, &As::Certificate(&crt, &key, &[])).code, 401);
    let (crt, key) = certified(cluster, dir, "other", "/CN=somebody", "front-proxy-ca");
    assert_eq!(whoami(cluster, &As::Certificate(&crt, &key, &headers)).code, 401);
    // Whoever is a user says nothing about others by such headers.
    let (crt, key) = certified(cluster, dir, "user", "/O=dev/CN=front-proxy-client", "client-ca");
    let headers = ["X-Remote-User: root", "X-Remote-Group: system:masters"];
    let told = whoami(cluster, &As::Certificate(&crt, &key, &headers));
    let user = &told.body["status"]["userInfo"];
    assert_eq!(user["username"], "front-proxy-client", "{}", told.body);
    assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));
}

fn claims(token: &str) -> Value {
    let body = token.trim().split('.').nth(1).expect("a token of three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).expect("base64")).expect("claims")
}

/// The status of a TokenReview.
fn reviewed(cluster: &Cluster, token: &str, audience: &str) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token.trim(), "audiences": [audience]}});
    let answer = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &review.to_string());
    assert_eq!(answer.code, 201, "{}", answer.body);
    answer.body["status"].clone()
}

fn tokens_are_for_whom_they_name(cluster: &Cluster) {
    let token = cluster.ok(&[
        "create",
        "token",
        "default",
        "--audience=boats",
        "--audience=ships",
        "--duration=15m",
    ]);
    let claims = claims(&token);
    assert_eq!(claims["aud"], json!(["boats", "ships"]));
    let lasts = claims["exp"]
        .as_i64()
        .zip(claims["iat"].as_i64())
        .map(|(exp, iat)| exp - iat);
    assert_eq!(lasts, Some(900));
    let known = reviewed(cluster, &token, "ships");
    assert_eq!(known["authenticated"], true, "{known}");
    assert_eq!(known["audiences"], json!(["ships"]));
    assert_eq!(known["user"]["username"], "system:serviceaccount:default:default");
    assert_ne!(reviewed(cluster, &token, "planes")["authenticated"], true);
    assert_eq!(
        whoami(cluster, &As::Token(token.trim())).code,
        401,
        "it is not for the API"
    );
    let brief = cluster.refused(&["create", "token", "default", "--duration=1m"]);
    assert_has(&brief, &["may not specify a duration less than 10 minutes"]);
}

fn tokens_end_with_what_they_are_bound_to(cluster: &Cluster) {
    cluster.ok(&["create", "secret", "generic", "anchor"]);
    let bound = ["--bound-object-kind=Secret", "--bound-object-name=anchor"];
    let token = cluster.ok(&[&["create", "token", "default"], &bound[..]].concat());
    assert_eq!(claims(&token)["kubernetes.io"]["secret"]["name"], "anchor");
    assert_eq!(whoami(cluster, &As::Token(token.trim())).code, 201);
    let wrong = [
        &["create", "token", "default"],
        &bound[..],
        &["--bound-object-uid=wrong"],
    ]
    .concat();
    assert_has(&cluster.refused(&wrong), &["does not match the UID in record"]);
    cluster.ok(&["delete", "secret", "anchor"]);
    eventually("the token's end", || {
        match whoami(cluster, &As::Token(token.trim())).code {
            401 => Ok(()),
            code => Err(code.to_string()),
        }
    });
    // One of the same name is another one.
    cluster.ok(&["create", "secret", "generic", "anchor"]);
    assert_eq!(whoami(cluster, &As::Token(token.trim())).code, 401);
}

/// What each of six users is answered, over the network and through the whole chain; nothing is changed.
fn each_sort_of_user_may_what_is_theirs(cluster: &Cluster, dir: &Path) {
    for role in ["admin", "edit", "view"] {
        let (binding, user) = (format!("m-{role}"), format!("--user={role}"));
        cluster.ok(&[
            "create",
            "rolebinding",
            &binding,
            &format!("--clusterrole={role}"),
            &user,
        ]);
    }
    let account = cluster.account("nobody-special");
    let certified = |name: &str, subject: &str| certified(cluster, dir, name, subject, "client-ca");
    let people: Vec<(PathBuf, PathBuf)> = ["admin", "edit", "view"]
        .map(|role| certified(role, &format!("/CN={role}")))
        .into_iter()
        .chain([certified("n1", "/O=system:nodes/CN=system:node:n1")])
        .collect();
    let mut users: Vec<As> = vec![As::Admin];
    users.extend(people.iter().map(|(crt, key)| As::Certificate(crt, key, &[])));
    users.extend([As::Token(&account), As::Anonymous]);
    eventually("the bindings", || {
        match asked(cluster, &users[3], "GET", "configmaps", "") {
            200 => Ok(()),
            code => Err(code.to_string()),
        }
    });
    let map = r#"{"metadata":{"name":"m"}}"#;
    let role = r#"{"metadata":{"name":"m"},"rules":[]}"#;
    let quota = r#"{"metadata":{"name":"m"},"spec":{"hard":{"pods":"1"}}}"#;
    let pod = r#"{"metadata":{"name":"m"},"spec":{"containers":[{"name":"a","image":"local/none:1"}]}}"#;
    // Of masters, admin, edit, view, a node, an account, nobody.
    for (method, what, body, expected) in [
        ("GET", "configmaps", "", [200, 200, 200, 200, 403, 403, 403]),
        ("GET", "secrets", "", [200, 200, 200, 403, 403, 403, 403]),
        ("GET", "pods", "", [200, 200, 200, 200, 403, 403, 403]),
        (
            "GET",
            "pods?fieldSelector=spec.nodeName=n1",
            "",
            [200, 200, 200, 200, 200, 403, 403],
        ),
        ("GET", "roles", "", [200, 200, 403, 403, 403, 403, 403]),
        ("GET", "pods/none/log", "", [404, 404, 404, 404, 403, 403, 403]),
        (
            "POST",
            "pods/none/exec?command=a",
            "",
            [400, 400, 400, 403, 403, 403, 403],
        ),
        ("POST", "configmaps", map, [201, 201, 201, 403, 403, 403, 403]),
        ("POST", "secrets", map, [201, 201, 201, 403, 403, 403, 403]),
        ("POST", "pods", pod, [201, 201, 201, 403, 403, 403, 403]),
        ("POST", "roles", role, [201, 201, 403, 403, 403, 403, 403]),
        (
            "POST",
            "resourcequotas",
            quota,
            [201, 403, 403, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "configmaps/kube-root-ca.crt",
            "",
            [200, 200, 200, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "serviceaccounts/default",
            "",
            [200, 200, 200, 403, 403, 403, 403],
        ),
        (
            "PATCH",
            "configmaps/kube-root-ca.crt",
            map,
            [200, 200, 200, 403, 403, 403, 403],
        ),
    ] {
        let is: Vec<u16> = users
            .iter()
            .map(|user| asked(cluster, user, method, what, body))
            .collect();
        assert_eq!(is, expected, "{method} {what}");
    }
}

/// The code with which a request about the namespace `default` is answered, without consequence.
fn asked(cluster: &Cluster, user: &As, method: &str, what: &str, body: &str) -> u16 {
    let mark = if what.contains('?') { '&' } else { '?' };
    let path = format!("/api/v1/namespaces/default/{what}");
    let path = match what.starts_with("roles") {
        true => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/default/{what}"),
        false => path,
    };
    let (path, kind) = match method {
        "GET" => (path, ""),
        "PATCH" => (format!("{path}{mark}dryRun=All"), "application/merge-patch+json"),
        _ if body.is_empty() => (format!("{path}{mark}dryRun=All"), ""),
        _ => (format!("{path}{mark}dryRun=All"), "application/json"),
    };
    // Patches do not rename.
    let body = if method == "PATCH" {
        r#"{"data":{"a":"b"}}"#
    } else {
        body
    };
    cluster.call(user, method, &path, kind, body).code
}

fn damaged_roles_are_mended_at_the_next_start(cluster: &mut Cluster) {
    let merge = |what: &str, patch: &str| {
        cluster.ok(&["patch", what, "--type=merge", "-p", patch]);
    };
    merge("clusterrole/system:discovery", r#"{"rules":[]}"#);
    merge("clusterrolebinding/system:basic-user", r#"{"subjects":[]}"#);
    cluster.ok(&["delete", "clusterrole", "system:node-proxier"]);
    cluster.ok(&["delete", "clusterrolebinding", "system:public-info-viewer"]);
    // What somebody added stays, and so does what is not to be mended.
    merge(
        "clusterrole/system:node-problem-detector",
        r#"{"rules":[{"apiGroups":["acme.com"],"resources":["boats"],"verbs":["get"]}]}"#,
    );
    let unmended =
        r#"{"metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"false"}},"rules":[]}"#;
    merge("clusterrole/system:volume-scheduler", unmended);
    cluster.stop();
    cluster.restart();
    let whole = |name: &str, words: &[&str]| {
        eventually(&format!("{name} to be mended"), || {
            let rules = cluster.field(&format!("clusterrole/{name}"), "{.rules}")?;
            crate::support::has(&rules, words)
        });
    };
    whole("system:discovery", &["/openapi", "get"]);
    whole("system:node-proxier", &["endpointslices"]);
    whole("system:node-problem-detector", &["acme.com", "nodes/status"]);
    let subjects = |name: &str| cluster.field(&format!("clusterrolebinding/{name}"), "{.subjects[*].name}");
    assert_has(&subjects("system:basic-user").unwrap(), &["system:authenticated"]);
    assert_has(
        &subjects("system:public-info-viewer").unwrap(),
        &["system:unauthenticated"],
    );
    assert_eq!(
        cluster
            .field("clusterrole/system:volume-scheduler", "{.rules}")
            .unwrap(),
        "[]"
    );
}
