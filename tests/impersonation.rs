//! Acting as somebody else, hearing what one may, and judging tokens without asking the server about them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::rest::{Answer, As};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const ACTOR: &str = "system:serviceaccount:default:actor";

/// Who the server thinks asks, with these headers.
fn whoami(cluster: &Cluster, token: &str, headers: &[&str]) -> Answer {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    cluster.call(
        &As::TokenWith(token, headers),
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "application/json",
        &review.to_string(),
    )
}

/// Lets the actor impersonate that.
fn allow(cluster: &Cluster, name: &str, group: &str, resources: &[&str], names: &[&str]) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": resources, "verbs": ["impersonate"], "resourceNames": names}]});
    cluster.apply(&role.to_string());
    let role = format!("--clusterrole={name}");
    cluster.ok(&[
        "create",
        "clusterrolebinding",
        name,
        &role,
        "--serviceaccount=default:actor",
    ]);
}

fn until_known(cluster: &Cluster, token: &str, headers: &[&str]) -> Value {
    eventually("the right to act", || {
        let said = whoami(cluster, token, headers);
        match said.code {
            201 => Ok(said.body["status"]["userInfo"].clone()),
            _ => Err(said.body.to_string()),
        }
    })
}

#[test]
fn others_are_acted_for_as_far_as_roles_say() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "serviceaccount", "actor"]);
        let token = cluster.ok(&["create", "token", "actor"]);
        let token = token.trim();
        let jane = "Impersonate-User: jane";
        let refused = |headers: &[&str], what: &str| {
            let why = format!("{what} at the cluster scope");
            whoami(&cluster, token, headers).is(403, "Forbidden", &[&why]);
        };
        refused(
            &[jane],
            &format!(
                r#"users "jane" is forbidden: User "{ACTOR}" cannot impersonate resource "users" in API group """#
            ),
        );
        allow(&cluster, "jane", "", &["users"], &["jane"]);
        let plain = until_known(&cluster, token, &[jane]);
        assert_eq!(
            plain,
            json!({"username": "jane", "groups": ["system:authenticated"]})
        );

        // Every part of who she is needs a right of its own.
        refused(
            &[jane, "Impersonate-Group: system:masters"],
            &format!(
                r#"groups "system:masters" is forbidden: User "{ACTOR}" cannot impersonate resource "groups" in API group """#
            ),
        );
        refused(
            &[jane, "Impersonate-Uid: 7"],
            &format!(
                r#"uids.authentication.k8s.io "7" is forbidden: User "{ACTOR}" cannot impersonate resource "uids" in API group "authentication.k8s.io""#
            ),
        );
        let (scope, team) = (
            "Impersonate-Extra-Scopes: a",
            "Impersonate-Extra-Example.com%2fteam: blue",
        );
        refused(
            &[jane, scope],
            &format!(
                r#"userextras.authentication.k8s.io "a" is forbidden: User "{ACTOR}" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io""#
            ),
        );
        let extras = ["userextras/scopes", "userextras/example.com/team"];
        allow(
            &cluster,
            "extras",
            "authentication.k8s.io",
            &extras,
            &["a", "blue"],
        );
        allow(&cluster, "uids", "authentication.k8s.io", &["uids"], &["7"]);
        let whole = until_known(&cluster, token, &[jane, scope, team, "Impersonate-Uid: 7"]);
        assert_eq!(
            whole,
            json!({"username": "jane", "uid": "7", "groups": ["system:authenticated"],
                "extra": {"scopes": ["a"], "example.com/team": ["blue"]}})
        );
        refused(
            &[jane, scope, "Impersonate-Extra-Scopes: all"],
            r#"userextras.authentication.k8s.io "all" is forbidden: User "system:serviceaccount:default:actor" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io""#,
        );
    });
}

/// A part of a token.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

#[test]
fn accounts_hear_what_they_may_and_whose_tokens_are_good() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "serviceaccount", "actor"]);
        cluster.ok(&[
            "create",
            "rolebinding",
            "v",
            "--clusterrole=view",
            "--serviceaccount=default:actor",
        ]);
        let actor = format!("--as={ACTOR}");
        let listed = eventually("what it may", || {
            let listed = cluster.ok(&["auth", "can-i", "--list", &actor]);
            match listed.contains("configmaps") {
                true => Ok(listed),
                false => Err(listed),
            }
        });
        let may = |resource: &str| -> String {
            let line = listed
                .lines()
                .find(|line| line.split_whitespace().next() == Some(resource));
            let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
            words.join(" ")
        };
        assert_eq!(may("configmaps"), "configmaps [] [] [get list watch]");
        assert_eq!(may("pods/log"), "pods/log [] [] [get list watch]");
        assert_eq!(may("secrets"), "");
        let own = "selfsubjectrulesreviews.authorization.k8s.io";
        assert_eq!(may(own), format!("{own} [] [] [create]"));
        assert_has(&listed, &["[/version]", "[/healthz]"]);

        // Service accounts may read who signs their tokens, nobody else may.
        let token = cluster.ok(&["create", "token", "actor"]);
        let read = |who: &As, path: &str| cluster.call(who, "GET", path, "", "");
        let me = As::Token(token.trim());
        let found = read(&me, "/.well-known/openid-configuration").body;
        assert_eq!(found["issuer"], part(token.trim(), 1)["iss"], "{found}");
        let keys = read(&me, "/openid/v1/jwks").body;
        assert_eq!(keys["keys"][0]["kid"], part(token.trim(), 0)["kid"], "{keys}");
        for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
            let why = format!(r#"forbidden: User "system:anonymous" cannot get path "{path}""#);
            read(&As::Anonymous, path).is(403, "Forbidden", &[&why]);
        }
    });
}
