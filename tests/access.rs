//! Who may do what.

use std::process::Command;

use crate::support::manifests::idle_pod;
use crate::support::rest::As;
use crate::support::said::said;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn strangers_are_turned_away() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let anonymous = cluster.call(&As::Anonymous, "GET", CONFIGMAPS, "", "");
        anonymous.is(403, "Forbidden", &[
            r#"configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" in the namespace "default""#,
        ]);
        for token in ["wrong", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."] {
            cluster.call(&As::Token(token), "GET", CONFIGMAPS, "", "").is(
                401,
                "Unauthorized",
                &["Unauthorized"],
            );
        }
        // The tokens by which machines join open nothing else.
        for file in ["server-token", "agent-token"] {
            let token = std::fs::read_to_string(cluster.dir.join(file)).unwrap();
            let answer = cluster.call(&As::Token(token.trim()), "GET", "/api/v1/secrets", "", "");
            assert!(answer.code == 401 || answer.code == 403, "{file}: {answer:?}");
        }
        assert_eq!(cluster.call(&As::Admin, "GET", CONFIGMAPS, "", "").code, 200);
    });
}

#[test]
fn roles_say_what_an_account_may_do() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "serviceaccount", "reader"]);
        cluster.ok(&["create", "configmap", "words", "--from-literal=a=1"]);
        let token = cluster.ok(&["create", "token", "reader"]);
        let me = As::Token(token.trim());
        let user = "system:serviceaccount:default:reader";
        let list = || cluster.call(&me, "GET", CONFIGMAPS, "", "");
        list().is(403, "Forbidden", &[&format!(
            r#"configmaps is forbidden: User "{user}" cannot list resource "configmaps" in API group "" in the namespace "default""#
        )]);
        cluster.ok(&[
            "create",
            "role",
            "reader",
            "--verb=get,list",
            "--resource=configmaps",
        ]);
        cluster.ok(&[
            "create",
            "rolebinding",
            "reader",
            "--role=reader",
            "--serviceaccount=default:reader",
        ]);
        eventually("the right to list", || match list().code {
            200 => Ok(()),
            code => Err(code.to_string()),
        });
        cluster.call(&me, "DELETE", &format!("{CONFIGMAPS}/words"), "", "").is(403, "Forbidden", &[&format!(
            r#"configmaps "words" is forbidden: User "{user}" cannot delete resource "configmaps" in API group "" in the namespace "default""#
        )]);
        cluster.call(&me, "GET", "/api/v1/nodes", "", "").is(403, "Forbidden", &[&format!(
            r#"nodes is forbidden: User "{user}" cannot list resource "nodes" in API group "" at the cluster scope"#
        )]);
        let can = |verb: &str, what: &str| {
            cluster.run_both(&["auth", "can-i", verb, what, &format!("--as={user}")])
        };
        assert_has(&can("list", "configmaps"), &["yes"]);
        assert_has(&can("list", "secrets"), &["no"]);
        assert_has(
            &cluster.ok(&["auth", "whoami", "-o", "json"]),
            &["system:masters"],
        );

        // Nobody hands out what they do not have.
        cluster.ok(&[
            "create",
            "role",
            "roles",
            "--verb=get,create",
            "--resource=roles.rbac.authorization.k8s.io",
        ]);
        cluster.ok(&[
            "create",
            "rolebinding",
            "roles",
            "--role=roles",
            "--serviceaccount=default:reader",
        ]);
        let escalation = eventually("the refusal", || {
            let as_user = format!("--as={user}");
            let why = cluster.refused(&[
                "create",
                "role",
                "more",
                "--verb=get",
                "--resource=secrets",
                &as_user,
            ]);
            if why.contains("cannot create resource") {
                Err(why)
            } else {
                Ok(why)
            }
        });
        assert_has(
            &escalation,
            &["is attempting to grant RBAC permissions not currently held"],
        );

        cluster.ok(&["delete", "rolebinding", "reader"]);
        eventually("the right's end", || match list().code {
            403 => Ok(()),
            code => Err(code.to_string()),
        });
        cluster.ok(&["delete", "serviceaccount", "reader"]);
        eventually("the token's end", || match list().code {
            401 => Ok(()),
            code => Err(code.to_string()),
        });
    });
}

#[test]
fn a_pod_speaks_to_the_api_with_its_own_token() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.ok(&[
            "create",
            "clusterrolebinding",
            "viewers",
            "--clusterrole=view",
            "--serviceaccount=default:default",
        ]);
        cluster.apply(&idle_pod("box"));
        cluster.pod_ready("box");
        let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
        let read = |name: &str| {
            cluster
                .exec("box", &["cat", &format!("{folder}/{name}")])
                .unwrap()
        };
        assert_eq!(read("namespace"), "default");
        assert_has(&read("ca.crt"), &["BEGIN CERTIFICATE"]);
        let token = read("token");
        let me = As::Token(token.trim());
        let who = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        let answer = cluster.call(
            &me,
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            "application/json",
            who,
        );
        let info = &answer.body["status"]["userInfo"];
        assert_eq!(
            info["username"], "system:serviceaccount:default:default",
            "{answer:?}"
        );
        assert_eq!(
            info["extra"]["authentication.kubernetes.io/pod-name"][0], "box",
            "{info}"
        );
        assert_eq!(
            cluster
                .call(&me, "GET", "/api/v1/namespaces/default/pods/box", "", "")
                .code,
            200
        );
        cluster
            .call(&me, "GET", "/api/v1/namespaces/default/secrets", "", "")
            .is(403, "Forbidden", &["cannot list resource \"secrets\""]);

        // From the pod's network, through the API's Service, whose certificate the pod's CA vouches for.
        // (busybox' own TLS is too old for any current server, so the host's curl stands in.)
        let ca = dir.join("ca.crt");
        std::fs::write(&ca, read("ca.crt")).unwrap();
        let uid = cluster.field("pod/box", "{.metadata.uid}").unwrap();
        let id = std::fs::read_to_string(cluster.dir.join("instance-id")).unwrap();
        let netns = cluster.dir.join("netns").join(format!("{}-{uid}", id.trim()));
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--net={}", netns.display()))
            .args(["curl", "-sSf", "--max-time", "10", "--cacert"])
            .arg(&ca);
        curl.args(["-H", &format!("Authorization: Bearer {}", token.trim())]);
        curl.args(["--resolve", "kubernetes.default.svc:443:10.43.0.1"]);
        curl.arg("https://kubernetes.default.svc/api/v1/namespaces/default/pods/box");
        let seen = said(curl.output().unwrap()).unwrap();
        assert_has(&seen, &["\"name\": \"box\""]);
        let env = cluster.exec("box", &["env"]).unwrap();
        assert_has(
            &env,
            &["KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_SERVICE_PORT=443"],
        );

        // The token is bound to the pod: it ends with it.
        cluster.ok(&["delete", "pod", "box", "--grace-period=1"]);
        eventually("the token's end", || {
            match cluster
                .call(&me, "GET", "/api/v1/namespaces/default/pods", "", "")
                .code
            {
                401 => Ok(()),
                code => Err(code.to_string()),
            }
        });
    });
}

#[test]
fn secrets_stay_out_of_logs_and_away_from_nodes_that_need_them_not() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &["--log", "debug"]);
        cluster.busybox();
        cluster.ready();
        cluster.ok(&[
            "create",
            "secret",
            "generic",
            "key",
            "--from-literal=password=correcthorse",
        ]);
        cluster.ok(&[
            "patch",
            "secret",
            "key",
            "-p",
            r#"{"stringData":{"pin":"batterystaple"}}"#,
        ]);
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  containers:
  - name: main
    image: local/busybox:1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]
    envFrom: [{secretRef: {name: key}}]
    volumeMounts: [{name: key, mountPath: /key}]
  volumes: [{name: key, secret: {secretName: key}}]
"#,
        );
        cluster.pod_ready("box");
        assert_eq!(
            cluster
                .exec("box", &["cat", "/key/password", "/key/pin"])
                .unwrap(),
            "correcthorsebatterystaple"
        );
        assert_has(
            &cluster.exec("box", &["env"]).unwrap(),
            &["password=correcthorse", "pin=batterystaple"],
        );
        let token = cluster.ok(&["create", "token", "default"]);
        let described = cluster.ok(&["describe", "secret", "key"]);
        let log = cluster.log();
        assert!(log.lines().count() > 10, "the log is there: {log}");
        for secret in [
            "correcthorse",
            "batterystaple",
            "Y29ycmVjdGhvcnNl",
            "YmF0dGVyeXN0YXBsZQ",
            token.trim(),
        ] {
            assert!(
                !log.contains(secret) && !described.contains(secret),
                "{secret} was shown"
            );
        }
    });
}
