//! The audit log: what its policy asks for is recorded, in a file and at a webhook, and nothing else.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::webhook::{Webhook, about_maps};
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
  resources: [{group: "", resources: ["pods/exec"]}]
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
        let path = log.to_str().expect("a path");
        let cut = [
            "--audit-log-truncate-enabled",
            "--audit-log-truncate-max-event-size=20000",
        ];
        let cluster = start(dir, &[&["--audit-log-path", path], &cut[..]].concat());
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
        large_events_are_cut(&cluster, &log);
        those_who_are_asked_leave_notes(&cluster, &log, dir);
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

fn large_events_are_cut(cluster: &Cluster, log: &Path) {
    let large = format!("--from-literal=x={}", "y".repeat(30_000));
    cluster.ok(&["create", "configmap", "large", &large]);
    let cut = event(log, "the cut event", |e| {
        e["verb"] == "create" && e["annotations"]["audit.k8s.io/truncated"] == "true"
    });
    assert_eq!(cut["responseStatus"]["code"], 201);
    assert!(
        cut.get("requestObject").is_none() && cut.get("responseObject").is_none(),
        "{cut}"
    );
}

/// Webhooks and policies: what they say to the log, what they changed, and which were left out.
fn those_who_are_asked_leave_notes(cluster: &Cluster, log: &Path, dir: &Path) {
    let server = Webhook::start(dir);
    let absent = json!({"url": "https://127.0.0.1:9/", "caBundle": server.client("/")["caBundle"]});
    let lenient = json!({"failurePolicy": "Ignore"});
    cluster.hook("Mutating", "a-absent", &about_maps("m-absent", &absent, &lenient));
    cluster.hook(
        "Mutating",
        "b-changes",
        &about_maps("changes", &server.client("/append/a"), &json!({})),
    );
    cluster.hook(
        "Validating",
        "a-absent",
        &about_maps("v-absent", &absent, &lenient),
    );
    cluster.hook(
        "Validating",
        "b-notes",
        &about_maps("notes", &server.client("/note"), &json!({})),
    );
    cluster.apply(&policy().to_string());
    cluster.apply(
        &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "sizes"}, "spec": {"policyName": "sizes", "validationActions": ["Audit"]}})
        .to_string(),
    );
    let mut tries = 0;
    let notes = eventually("notes of all", || {
        tries += 1;
        let name = format!("noted-{tries}");
        cluster.try_ok(&["create", "configmap", &name, "--from-literal=x=y"])?;
        let made = event(log, "the creation", |e| {
            e["verb"] == "create" && e["responseObject"]["metadata"]["name"] == name.as_str()
        });
        let notes = made["annotations"].clone();
        let all = ["notes.example.com/seen", "sizes/size"];
        let all = all.iter().all(|key| notes.get(key).is_some());
        if all { Ok(notes) } else { Err(notes.to_string()) }
    });
    for (key, said) in [
        ("notes.example.com/seen", "yes"),
        ("sizes/size", "1 of them"),
        (
            "failed-open.mutation.webhook.admission.k8s.io/round_0_index_0",
            "m-absent.example.com",
        ),
        (
            "failed-open.validating.webhook.admission.k8s.io/round_0_index_0",
            "v-absent.example.com",
        ),
    ] {
        assert_eq!(notes[key], said, "{key} in {notes}");
    }
    let read = |key: &str| serde_json::from_str::<Value>(notes[key].as_str().expect(key)).expect(key);
    assert_eq!(
        read("mutation.webhook.admission.k8s.io/round_0_index_0"),
        json!({"configuration": "a-absent", "webhook": "m-absent.example.com", "mutated": false})
    );
    assert_eq!(
        read("mutation.webhook.admission.k8s.io/round_0_index_1"),
        json!({"configuration": "b-changes", "webhook": "changes.example.com", "mutated": true})
    );
    let patch = read("patch.webhook.admission.k8s.io/round_0_index_1");
    assert_eq!(
        (&patch["patchType"], &patch["patch"][0]["op"]),
        (&json!("JSONPatch"), &json!("add"))
    );
    let failure = read("validation.policy.admission.k8s.io/validation_failure");
    assert_eq!(
        (&failure[0]["message"], &failure[0]["policy"]),
        (&json!("too few"), &json!("sizes"))
    );
    a_stream_is_noted_too(cluster, log, &server);
    metrics_tell(cluster, &server);
    for sort in ["mutating", "validating"] {
        cluster.ok(&["delete", &format!("{sort}webhookconfigurations"), "--all"]);
    }
}

/// A policy that notes how many entries a ConfigMap has, and finds them too few.
fn policy() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "sizes"}, "spec": {
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
            "auditAnnotations": [{"key": "size", "valueExpression": "string(size(object.data)) + ' of them'"}],
            "validations": [{"expression": "size(object.data) > 9", "message": "too few"}]}})
}

/// What is said of `exec` reaches caller and log, although there is no answer of the usual sort.
fn a_stream_is_noted_too(cluster: &Cluster, log: &Path, server: &Webhook) {
    let rules = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]}]);
    let hook = about_maps(
        "execs",
        &server.client("/note"),
        &json!({"rules": rules, "matchConditions": []}),
    );
    cluster.hook("Validating", "c-execs", &hook);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "box"},
        "spec": {"containers": [{"name": "a", "image": "local/none:1"}]}});
    cluster.apply(&pod.to_string());
    let path = "/api/v1/namespaces/default/pods/box/exec?command=true&stdout=true";
    eventually("the warning", || {
        crate::support::has(&cluster.curled(&["-i"], path), &["299 - \"you are watched\""])
    });
    event(log, "the note", |e| {
        e["requestURI"] == path && e["annotations"]["execs.example.com/seen"] == "yes"
    });
}

fn metrics_tell(cluster: &Cluster, server: &Webhook) {
    cluster.hook(
        "Validating",
        "d-denies",
        &about_maps("denies", &server.client("/deny"), &json!({})),
    );
    eventually("the refusal", || {
        match cluster.try_ok(&["create", "configmap", "denied", "--dry-run=server"]) {
            Ok(said) => Err(said),
            Err(why) => crate::support::has(&why, &["not on my watch"]),
        }
    });
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    for series in [
        "apiserver_admission_webhook_fail_open_count{name=\"m-absent.example.com\",type=\"admit\"} ",
        "apiserver_admission_webhook_fail_open_count{name=\"v-absent.example.com\",type=\"validating\"} ",
        "apiserver_admission_webhook_rejection_count{name=\"denies.example.com\",type=\"validating\",\
         operation=\"CREATE\",error_type=\"no_error\",rejection_code=\"403\"} ",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"changes.example.com\",type=\"admit\"",
        "apiserver_admission_step_admission_duration_seconds_count{type=\"validate\",operation=\"CREATE\"",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"LimitRanger\",type=\"admit\"",
    ] {
        crate::support::assert_has(&metrics, &[series]);
    }
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
            "users": [{"name": "u", "user": {"token": "of-the-log"}}],
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
            let known = |list: &Value| list["authorization"] == "Bearer of-the-log";
            assert!(lists.iter().all(known), "somebody else sent one: {lists:?}");
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
