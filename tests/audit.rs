//! The audit log: what its policy asks for is recorded, in a file and at a webhook, and nothing else.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::webhook::Webhook;
use crate::support::{Cluster, eventually, sandboxed};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"]
- level: Metadata
  resources: [{group: "", resources: ["secrets"]}]
- level: RequestResponse
  resources: [{group: "", resources: ["configmaps", "pods"]}]
  verbs: ["create", "delete", "patch"]
- level: Metadata
  nonResourceURLs: ["/version*"]
- level: Metadata
  verbs: ["watch"]
  resources: [{group: "", resources: ["configmaps"]}]
"#;

fn start(dir: &Path, more: &[&str]) -> Cluster {
    let policy = dir.join("policy.yaml");
    fs::write(&policy, POLICY).expect("the policy");
    let mut args = vec!["--audit-policy-file", policy.to_str().expect("a path")];
    args.extend(more);
    Cluster::start_as("server", dir.join("data"), &args)
}

fn events(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Waits for an event that fits.
fn event(log: &Path, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let all = events(log);
        let count = all.len();
        all.into_iter()
            .find(|event| fits(event))
            .ok_or(format!("not among {count} events"))
    })
}

fn is(event: &Value, verb: &str, resource: &str, name: &str) -> bool {
    event["verb"] == verb && event["objectRef"]["resource"] == resource && event["objectRef"]["name"] == name
}

#[test]
fn who_did_what_is_recorded_as_the_policy_says() {
    sandboxed(|dir| {
        let log = dir.join("audit").join("audit.log");
        let cluster = start(dir, &["--audit-log-path", log.to_str().expect("a path")]);
        cluster.ok(&["create", "configmap", "a", "--from-literal=x=y"]);
        let made = event(&log, "the creation", |e| is(e, "create", "configmaps", "a"));
        assert_eq!(
            (&made["stage"], &made["level"]),
            (&json!("ResponseComplete"), &json!("RequestResponse"))
        );
        assert_eq!(made["requestObject"]["data"]["x"], "y");
        assert!(made["responseObject"]["metadata"]["uid"].is_string(), "{made}");
        assert_eq!(made["responseObject"]["metadata"].get("managedFields"), None);
        assert_eq!(made["responseStatus"]["code"], 201);
        assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
        assert!(
            made["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("kubectl")),
            "{made}"
        );
        cluster.ok(&[
            "create",
            "secret",
            "generic",
            "s",
            "--from-literal=password=hunter2",
        ]);
        let secret = event(&log, "the secret", |e| {
            is(e, "create", "secrets", "s")
                || (e["verb"] == "create" && e["objectRef"]["resource"] == "secrets")
        });
        assert_eq!(secret["level"], "Metadata");
        assert!(
            secret.get("requestObject").is_none() && !secret.to_string().contains("aHVudGVyMg"),
            "{secret}"
        );
        refusals(&cluster, &log);
        impersonation(&cluster, &log);
        strangers(&cluster, &log);
        // What no rule asks for is not there.
        cluster.ok(&["get", "namespaces"]);
        cluster.ok(&["get", "--raw", "/version"]);
        event(&log, "the version", |e| e["requestURI"] == "/version");
        assert!(
            !events(&log)
                .iter()
                .any(|e| e["objectRef"]["resource"] == "namespaces")
        );
        assert!(!events(&log).iter().any(|e| e["stage"] == "RequestReceived"));
    });
}

/// Whoever is nobody leaves a trail too.
fn strangers(cluster: &Cluster, log: &Path) {
    let path = "/api/v1/namespaces/default/secrets/not-yours";
    assert_eq!(cluster.call(&As::Token("made-up"), "GET", path, "", "").code, 401);
    let refused = event(log, "the stranger", |e| e["requestURI"] == path);
    assert_eq!(
        (&refused["stage"], &refused["responseStatus"]["code"]),
        (&json!("ResponseStarted"), &json!(401))
    );
    assert_eq!(
        refused["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
    assert_eq!(refused["objectRef"]["name"], "not-yours");
}

fn refusals(cluster: &Cluster, log: &Path) {
    cluster.ok(&[
        "label",
        "namespace",
        "default",
        "pod-security.kubernetes.io/enforce=baseline",
    ]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"}, "spec": {"hostPID": true,
        "containers": [{"name": "a", "image": "local/none:1"}]}});
    cluster
        .feed(&["create", "-f", "-"], &pod.to_string())
        .expect_err("refused");
    let refused = event(log, "the refusal", |e| is(e, "create", "pods", "host"));
    assert_eq!(
        (
            &refused["responseStatus"]["code"],
            &refused["responseStatus"]["reason"]
        ),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(
        refused["annotations"]["pod-security.kubernetes.io/enforce-policy"],
        "baseline:latest"
    );
}

fn impersonation(cluster: &Cluster, log: &Path) {
    cluster.refused(&["delete", "configmap", "a", "--as", "eve"]);
    let tried = event(log, "the attempt", |e| is(e, "delete", "configmaps", "a"));
    assert_eq!(tried["impersonatedUser"]["username"], "eve");
    assert_eq!(tried["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(tried["responseStatus"]["code"], 403);
}

#[test]
fn a_webhook_is_sent_lists_of_events() {
    sandboxed(|dir| {
        let server = Webhook::start(dir);
        let client = server.client("/audit");
        let pem = STANDARD
            .decode(client["caBundle"].as_str().expect("a bundle"))
            .expect("base64");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": client["url"], "certificate-authority-data": STANDARD.encode(pem)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        let file = dir.join("webhook.kubeconfig");
        fs::write(&file, config.to_string()).expect("the configuration");
        let cluster = start(
            dir,
            &[
                "--audit-webhook-config-file",
                file.to_str().expect("a path"),
                "--audit-webhook-batch-max-wait",
                "1",
            ],
        );
        cluster.ok(&["create", "configmap", "told", "--from-literal=x=y"]);
        eventually("the event", || {
            let lists = server.requests();
            let all = lists
                .iter()
                .flat_map(|list| list["items"].as_array().cloned().unwrap_or_default());
            let found = all
                .filter(|event| is(event, "create", "configmaps", "told"))
                .count();
            if found == 1 {
                Ok(())
            } else {
                Err(format!("{found} of it, in {} lists", lists.len()))
            }
        });
    });
}
