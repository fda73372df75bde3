//! Secrets of type `kubernetes.io/service-account-token`.

use crate::support::rest::{Answer, As};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

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
        eventually("the Secret's end", || {
            match cluster.try_ok(&["get", "secret", "second"]) {
                Err(why) if why.contains("NotFound") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let nameless = asking("nameless", "");
        assert_has(
            &cluster.feed(&["apply", "-f", "-"], &nameless).unwrap_err(),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
    });
}
