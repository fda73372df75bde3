//! Secrets of type `kubernetes.io/service-account-token`.

use std::process::Command;

use crate::support::rest::{Answer, As};
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// The day of a token's last use, and that since which it is refused.
const LAST_USED: &str = "{.metadata.labels.kubernetes\\.io/legacy-token-last-used}";
const INVALID_SINCE: &str = "{.metadata.labels.kubernetes\\.io/legacy-token-invalid-since}";

/// A Secret that asks for a token of an account of the namespace `default`.
pub fn asking(name: &str, account: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: {name}
  annotations:
    kubernetes.io/service-account.name: "{account}"
"#
    )
}

/// What a Secret says of a key, once it says something.
pub fn told(cluster: &Cluster, secret: &str, key: &str) -> String {
    let path = format!("-o=go-template={{{{index .data {key:?} | base64decode}}}}");
    eventually(&format!("{key} of {secret}"), || {
        let said = cluster.try_ok(&["get", "secret", secret, &path])?;
        match said.contains("no value") || said.is_empty() {
            true => Err(said),
            false => Ok(said),
        }
    })
}

fn who_am_i(cluster: &Cluster, token: &str) -> Answer {
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    cluster.call(&As::Token(token), "POST", path, "application/json", review)
}

/// A day from now, as labels say it.
fn day(off: i32) -> String {
    let date = format!("now {off:+} days");
    let out = Command::new("date").args(["-u", "+%F", "-d", &date]).output();
    String::from_utf8(out.expect("date").stdout)
        .expect("a day")
        .trim()
        .to_owned()
}

/// Waits until a label of a Secret says this day, or the next: it may be midnight.
fn labelled(cluster: &Cluster, secret: &str, path: &str, off: i32) {
    let days = [day(off), day(off + 1)];
    eventually(&format!("{secret} labelled with {days:?}"), || {
        let said = cluster.field(&format!("secret/{secret}"), path)?;
        if days.contains(&said) { Ok(()) } else { Err(said) }
    });
}

fn is_gone(cluster: &Cluster, secret: &str) {
    eventually(&format!("the end of {secret}"), || {
        match cluster.try_ok(&["get", "secret", secret]) {
            Err(why) if why.contains("NotFound") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn is_refused(cluster: &Cluster, token: &str, why: &str) {
    eventually(why, || match who_am_i(cluster, token).code {
        401 => Ok(()),
        code => Err(code.to_string()),
    });
}

#[test]
fn a_secret_gets_a_token_of_its_account_and_goes_with_it() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "serviceaccount", "robot"]);
        for name in ["first", "second"] {
            cluster.apply(&asking(name, "robot"));
        }
        let token = told(&cluster, "first", "token");
        assert_eq!(told(&cluster, "first", "namespace"), "default");
        assert_eq!(
            told(&cluster, "first", "ca.crt").trim(),
            cluster
                .field("configmap/kube-root-ca.crt", "{.data.ca\\.crt}")
                .unwrap()
                .trim()
        );
        let uid = cluster.field("serviceaccount/robot", "{.metadata.uid}").unwrap();
        let path = "{.metadata.annotations.kubernetes\\.io/service-account\\.uid}";
        assert_eq!(cluster.field("secret/first", path).unwrap(), uid);
        assert_has(
            &cluster.ok(&["describe", "serviceaccount", "robot"]),
            &["first", "second"],
        );

        let me = who_am_i(&cluster, &token);
        assert_eq!(me.code, 201, "{me:?}");
        let user = &me.body["status"]["userInfo"];
        assert_eq!(user["username"], "system:serviceaccount:default:robot");
        assert_eq!(user["uid"], uid.as_str());
        assert!(user["extra"].is_null(), "{user}");
        labelled(&cluster, "first", LAST_USED, 0);
        assert_eq!(cluster.field("secret/second", LAST_USED).unwrap(), "");
        // Reading with it changes nothing more.
        let version = || {
            cluster
                .field("secret/first", "{.metadata.resourceVersion}")
                .unwrap()
        };
        let before = version();
        assert_eq!(who_am_i(&cluster, &token).code, 201);
        assert_eq!(version(), before);

        // It is good only where the Secret holds it; what is missing there is filled in again.
        let patch = |operation: &str| {
            let patch = format!("[{{{operation}, \"path\": \"/data/token\"}}]");
            cluster.ok(&["patch", "secret", "first", "--type=json", "-p", &patch]);
        };
        patch(r#""op": "replace", "value": "b3RoZXI=""#);
        is_refused(&cluster, &token, "a refusal of what the Secret does not hold");
        patch(r#""op": "remove""#);
        let again = told(&cluster, "first", "token");
        assert_eq!(who_am_i(&cluster, &again).code, 201);
        cluster.ok(&["delete", "secret", "first"]);
        is_refused(&cluster, &again, "a refusal once the Secret is gone");

        let second = told(&cluster, "second", "token");
        assert_eq!(who_am_i(&cluster, &second).code, 201);
        cluster.ok(&["delete", "serviceaccount", "robot"]);
        is_refused(&cluster, &second, "a refusal once the account is gone");
        is_gone(&cluster, "second");
        let nameless = asking("nameless", "");
        assert_has(
            &cluster.feed(&["apply", "-f", "-"], &nameless).unwrap_err(),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
    });
}

/// What a server says of the holder of a token, its headers included.
pub fn asked(server: &str, token: &str) -> Result<String, String> {
    let url = format!("{server}/apis/authentication.k8s.io/v1/selfsubjectreviews");
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let out = Command::new("curl")
        .args([
            "-sSki",
            "--http1.1",
            "-H",
            &format!("Authorization: Bearer {token}"),
        ])
        .args(["-H", "Content-Type: application/json", "-d", review, &url])
        .output()
        .expect("curl");
    crate::support::said::said(out)
}

/// Starts the server anew with its clock set so.
fn turned(servers: &mut Servers, days_off: i32) {
    servers.all[0].kill();
    servers.hosts[0].set_clock(days_off);
    servers.all[0].relaunch();
    servers.until_led(0);
    eventually("an answer", || {
        servers.all[0].try_ok(&["get", "serviceaccount", "robot"])
    });
}

#[test]
fn tokens_that_nobody_has_asked_for_or_used_are_marked_after_a_year_and_go_after_another() {
    sandboxed(|dir| {
        let mut servers = Servers::start_apart(dir, 1, |host| host.set_clock(-400));
        let cluster = &servers.all[0];
        cluster.ok(&["create", "serviceaccount", "robot"]);
        for name in ["generated", "asked-for"] {
            cluster.apply(&asking(name, "robot"));
        }
        let token = told(cluster, "generated", "token");
        // As accounts once referred to what was made for them.
        let references = r#"{"secrets":[{"name":"generated"}]}"#;
        cluster.ok(&["patch", "serviceaccount", "robot", "-p", references]);
        let warned = eventually("a warning", || {
            let said = asked(&servers.url(0), &token)?;
            crate::support::has(&said, &["auto-generated secret-based tokens"]).map(|()| said)
        });
        assert_has(&warned, &["201 Created", "warning: 299"]);
        labelled(cluster, "generated", LAST_USED, -400);

        turned(&mut servers, 0);
        labelled(&servers.all[0], "generated", INVALID_SINCE, 0);
        eventually("a refusal", || {
            crate::support::has(&asked(&servers.url(0), &token)?, &["401 Unauthorized"])
        });
        labelled(&servers.all[0], "generated", LAST_USED, 0);
        let path = "secret/asked-for";
        assert_eq!(servers.all[0].field(path, INVALID_SINCE).unwrap(), "");

        turned(&mut servers, 400);
        is_gone(&servers.all[0], "generated");
        servers.all[0].ok(&["get", path]);
    });
}
