//! Admission by those whom users ask: webhooks by URL and by Service, policies in CEL, and conversion between the
//! versions of a custom kind.

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::hosts::{Hosts, Place};
use crate::support::manifests::idle_pod;
use crate::support::running::Running;
use crate::support::sandbox::NODE_IP;
use crate::support::webhook::{self, Webhook, about_maps};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

/// Waits until making a ConfigMap is refused in these words.
fn refused(cluster: &Cluster, words: &[&str]) {
    eventually("a refusal", || {
        match cluster.try_ok(&["create", "configmap", "probe", "--dry-run=server"]) {
            Ok(said) => Err(format!("not refused: {said}")),
            Err(why) => has(&why, words),
        }
    });
}

/// Waits until making a ConfigMap is allowed; everything kubectl said.
fn allowed(cluster: &Cluster) -> String {
    eventually("leave", || {
        cluster.try_ok(&["create", "configmap", "probe", "--dry-run=server"])
    });
    cluster.run_both(&["create", "configmap", "probe", "--dry-run=server", "-o", "yaml"])
}

#[test]
fn webhooks_refuse_change_and_warn() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let server = Webhook::start(dir);
        refusals(&cluster, &server);
        failures(&cluster, &server);
        changes(&cluster, &server);
        warnings(&cluster, &server);
        selection(&cluster, &server);
    });
}

/// A webhook server in Python; the bundle by which it is known.
fn in_python(dir: &Path, port: &str) -> (Running, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.join("python.crt"), dir.join("python.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("its file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("its key");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/webhook.py");
    let child = Command::new("python3")
        .arg(script)
        .arg(port)
        .args([&certificate, &key])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    (Running(child.expect("python3")), STANDARD.encode(made.cert.pem()))
}

#[test]
fn a_webhook_may_be_written_in_python() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let (_server, bundle) = in_python(dir, "9444");
        let client = |path: &str| json!({"url": format!("https://127.0.0.1:9444{path}"), "caBundle": bundle});
        cluster.hook(
            "Validating",
            "look",
            &about_maps("look", &client("/validate"), &json!({})),
        );
        eventually("a warning", || {
            let said = cluster.run_both(&["create", "configmap", "probe", "--dry-run=server"]);
            has(&said, &["Warning: probe was looked at"])
        });
        let words = "admission webhook \"look.example.com\" denied the request: evil-map means harm";
        assert_has(&cluster.refused(&["create", "configmap", "evil-map"]), &[words]);
        cluster.hook(
            "Mutating",
            "label",
            &about_maps("label", &client("/mutate"), &json!({})),
        );
        eventually("a label", || {
            let shown =
                cluster.try_ok(&["create", "configmap", "probe", "--dry-run=server", "-o", "yaml"])?;
            has(&shown, &["seen-by: python"])
        });
    });
}

fn refusals(cluster: &Cluster, server: &Webhook) {
    let hook = about_maps("deny", &server.client("/deny"), &json!({}));
    let name = cluster.hook("Validating", "deny", &hook);
    let words = "admission webhook \"deny.example.com\" denied the request: not on my watch";
    refused(cluster, &[words]);
    let asked = server.requests().pop().unwrap();
    assert_eq!(
        (&asked["dryRun"], &asked["operation"]),
        (&json!(true), &json!("CREATE")),
        "{asked}"
    );
    assert_eq!(
        (&asked["kind"], &asked["name"]),
        (&json!("ConfigMap"), &json!("probe")),
        "{asked}"
    );
    assert_has(&cluster.refused(&["create", "configmap", "real"]), &[words]);
    // Other resources, other verbs, and the configuration itself are none of its business.
    cluster.ok(&["create", "secret", "generic", "free"]);
    cluster.ok(&["annotate", &name, "a=b"]);
    cluster.ok(&["delete", &name]);
    allowed(cluster);
    let hook = about_maps("shy", &server.client("/deny-silently"), &json!({}));
    let name = cluster.hook("Validating", "shy", &hook);
    refused(
        cluster,
        &["admission webhook \"shy.example.com\" denied the request without explanation"],
    );
    cluster.ok(&["delete", &name]);
}

fn failures(cluster: &Cluster, server: &Webhook) {
    let nobody = json!({"url": "https://127.0.0.1:1/x"});
    let stranger = json!({"url": server.client("/allow")["url"]});
    let missing = json!({"service": {"namespace": "default", "name": "nobody"}});
    for (client, seconds, words) in [
        (
            nobody,
            1,
            "Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            server.client("/slow"),
            1,
            "Post \"https://127.0.0.1:9443/slow?timeout=1s\": context deadline exceeded",
        ),
        (
            server.client("/broken"),
            5,
            "an error on the server (\"out of order\") has prevented the request",
        ),
        (
            stranger,
            5,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            missing,
            5,
            "Post \"https://nobody.default.svc:443/?timeout=5s\": service \"nobody\" not found",
        ),
    ] {
        let hook = about_maps("needed", &client, &json!({"timeoutSeconds": seconds}));
        let name = cluster.hook("Validating", "needed", &hook);
        let head = "Internal error occurred: failed calling webhook \"needed.example.com\": failed to call webhook: ";
        refused(cluster, &[head, words]);
        let hook = about_maps(
            "needed",
            &client,
            &json!({"timeoutSeconds": seconds, "failurePolicy": "Ignore"}),
        );
        cluster.hook("Validating", "needed", &hook);
        allowed(cluster);
        cluster.ok(&["delete", &name]);
    }
    let hook = about_maps("stranger", &server.client("/stranger"), &json!({}));
    let name = cluster.hook("Mutating", "stranger", &hook);
    refused(
        cluster,
        &[
            "received invalid webhook response: expected response.uid=",
            "got \"somebody else\"",
        ],
    );
    cluster.ok(&["delete", &name]);
}

fn changes(cluster: &Cluster, server: &Webhook) {
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let first = about_maps("first", &server.client("/append/a"), &again);
    let second = about_maps("second", &server.client("/append/b"), &json!({}));
    let names = [
        cluster.hook("Mutating", "a-first", &first),
        cluster.hook("Mutating", "b-second", &second),
    ];
    // The first one sees what the second one changed, and has its turn once more; the second one does not.
    eventually("both changes", || has(&allowed(cluster), &["order: aba"]));
    cluster.ok(&["create", "configmap", "real"]);
    assert_eq!(
        cluster
            .field("configmap/real", "{.metadata.annotations.order}")
            .unwrap(),
        "aba"
    );
    cluster.ok(&["delete", "configmap", "real"]);
    for name in names {
        cluster.ok(&["delete", &name]);
    }
}

fn warnings(cluster: &Cluster, server: &Webhook) {
    let hook = about_maps("warn", &server.client("/warn"), &json!({}));
    let name = cluster.hook("Validating", "warn", &hook);
    eventually("a warning", || {
        has(&allowed(cluster), &["Warning: that will end badly"])
    });
    cluster.ok(&["delete", &name]);
}

fn selection(cluster: &Cluster, server: &Webhook) {
    let chosen = json!({
        "namespaceSelector": {"matchLabels": {"guarded": "yes"}},
        "objectSelector": {"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]},
        "matchConditions": [{"name": "not-admin", "expression": "request.userInfo.username != 'nobody' && \
            object.metadata.name.startsWith('g')"}],
    });
    let hook = about_maps("guard", &server.client("/deny"), &chosen);
    let name = cluster.hook("Validating", "guard", &hook);
    cluster.ok(&["create", "namespace", "guarded"]);
    cluster.ok(&["label", "namespace", "guarded", "guarded=yes"]);
    let make = |namespace: &str, name: &str, labels: &str| {
        let map = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}}}"
        );
        cluster.feed(&["create", "--dry-run=server", "-f", "-"], &map)
    };
    eventually("a refusal", || match make("guarded", "gold", "") {
        Ok(said) => Err(said),
        Err(why) => has(&why, &["denied the request"]),
    });
    for (namespace, name, labels) in [
        ("default", "gold", ""),
        ("guarded", "tin", ""),
        ("guarded", "gold", "exempt: 'yes'"),
    ] {
        make(namespace, name, labels).unwrap();
    }
    cluster.ok(&["delete", &name]);
}

const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
    - {apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments/scale]}
  validations:
  - expression: object.spec.replicas <= 5
    messageExpression: "'no more than 5 replicas, not ' + string(object.spec.replicas)"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: everywhere}
spec: {policyName: replicas, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: owner}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: "Object{metadata: Object.metadata{labels: {'owner': request.userInfo.username.replace(':', '-')}}}"
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: everybody}
spec: {policyName: owner}
"#;

#[test]
fn policies_refuse_change_and_warn() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        cluster.apply(POLICY);
        // What clients wait for before they rely on a policy.
        let judged = cluster
            .field("validatingadmissionpolicy/replicas", "{.status}")
            .unwrap();
        assert_eq!(judged, r#"{"observedGeneration":1,"typeChecking":{}}"#);
        let wrong = POLICY.replace("object.spec.replicas <= 5", "object.replicas <= 5");
        let wrong = wrong
            .replace("name: replicas", "name: mistaken")
            .replace("policyName: replicas", "policyName: x");
        cluster
            .feed(&["create", "-f", "-"], wrong.split("---").next().unwrap())
            .unwrap();
        let judged = cluster
            .field(
                "validatingadmissionpolicy/mistaken",
                "{.status.typeChecking.expressionWarnings[*].warning}",
            )
            .unwrap();
        assert_has(
            &judged,
            &["apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'"],
        );
        let many = ["create", "deployment", "many", "--image=x", "--replicas=6"];
        let words = "ValidatingAdmissionPolicy 'replicas' with binding 'everywhere' denied request: no more than 5 \
                     replicas, not 6";
        eventually("a refusal", || {
            match cluster.try_ok(&[&many[..], &["--dry-run=server"]].concat()) {
                Ok(said) => Err(said),
                Err(why) => has(&why, &[words]),
            }
        });
        cluster.ok(&["create", "deployment", "few", "--image=x", "--replicas=2"]);
        let owner = cluster
            .field("deployment/few", "{.metadata.labels.owner}")
            .unwrap();
        assert!(!owner.is_empty(), "nobody owns it");
        let scaled = cluster.refused(&["scale", "deployment", "few", "--replicas=9"]);
        assert_has(&scaled, &["denied request: no more than 5 replicas, not 9"]);
        cluster.ok(&["scale", "deployment", "few", "--replicas=3"]);
        cluster.ok(&[
            "patch",
            "validatingadmissionpolicybinding",
            "everywhere",
            "--type=merge",
            "-p",
            r#"{"spec":{"validationActions":["Warn"]}}"#,
        ]);
        eventually("a warning", || {
            let said = cluster.run_both(&["scale", "deployment", "few", "--replicas=7"]);
            has(
                &said,
                &[
                    "Warning: Validation failed for ValidatingAdmissionPolicy 'replicas'",
                    "scaled",
                ],
            )
        });
    });
}

const BOATS: &str = "boats.harbour.example.com";

fn boats(server: &Webhook) -> String {
    let version = |name: &str, storage: bool, spec: Value| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": spec}}}}})
    };
    let flag = json!({"type": "boolean"});
    let number = json!({"type": "integer"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": BOATS},
        "spec": {"group": "harbour.example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": server.client("/convert")}},
            "versions": [version("v1", true, json!({"crew": number, "sinking": flag})),
                version("v2", false, json!({"rowers": number, "cox": flag, "sinking": flag}))]},
    });
    definition.to_string()
}

#[test]
fn custom_objects_are_converted() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let server = Webhook::start(dir);
        cluster.apply(&boats(&server));
        cluster.ok(&[
            "wait",
            "--for=condition=Established",
            "--timeout=20s",
            &format!("crd/{BOATS}"),
        ]);
        let boat = |version: &str, name: &str, spec: &str| {
            format!(
                "{{apiVersion: harbour.example.com/{version}, kind: Boat, metadata: {{name: {name}, labels: {{a: b}}}}, \
                 spec: {{{spec}}}}}"
            )
        };
        eventually("boats", || {
            cluster.feed(&["apply", "-f", "-"], &boat("v1", "ada", "crew: 5"))
        });
        cluster.apply(&boat("v2", "bea", "rowers: 8, cox: true"));
        let spec = |version: &str, name: &str, field: &str| {
            let place = format!("boats.{version}.harbour.example.com/{name}");
            cluster.field(&place, &format!("{{.spec.{field}}}")).unwrap()
        };
        assert_eq!(
            (spec("v1", "ada", "crew"), spec("v2", "ada", "rowers")),
            ("5".into(), "4".into())
        );
        assert_eq!(
            (spec("v1", "bea", "crew"), spec("v2", "bea", "rowers")),
            ("9".into(), "8".into())
        );
        lists_and_watches(&cluster);
        cluster.ok(&[
            "patch",
            "boats.v2.harbour.example.com",
            "ada",
            "--type=merge",
            "-p",
            r#"{"spec":{"rowers":1}}"#,
        ]);
        assert_eq!(spec("v1", "ada", "crew"), "2");
        assert_eq!(
            cluster
                .field("boats.v2.harbour.example.com/ada", "{.metadata.labels.a}")
                .unwrap(),
            "b"
        );
        let refused = cluster.feed(
            &["create", "-f", "-"],
            &boat("v2", "eve", "rowers: 2, sinking: true"),
        );
        assert_has(
            &refused.unwrap_err(),
            &[
                "conversion webhook for harbour.example.com/v2, Kind=Boat failed: a sinking boat stays as it is",
            ],
        );
        cluster.ok(&["delete", "boats.v2.harbour.example.com", "bea"]);
        fields_are_owned_as_another_version_calls_them(&cluster, &boat);
        those_who_know_one_version_are_asked_in_it(&cluster, &server, &boat);
        drop(server);
        assert_eq!(spec("v1", "ada", "crew"), "2", "nobody need be asked");
        let gone = cluster.refused(&["get", "boats.v2.harbour.example.com", "ada"]);
        assert_has(
            &gone,
            &["conversion webhook for harbour.example.com/v1, Kind=Boat failed: Post"],
        );
    });
}

/// Who applied the crew of `v1` hears of it when somebody applies the rowers of `v2`, which the webhook makes of it.
fn fields_are_owned_as_another_version_calls_them(
    cluster: &Cluster,
    boat: &dyn Fn(&str, &str, &str) -> String,
) {
    let apply = |manager: &str, force: bool, boat: String| {
        let force = format!("--force-conflicts={force}");
        let manager = format!("--field-manager={manager}");
        cluster.feed(&["apply", "--server-side", &force, &manager, "-f", "-"], &boat)
    };
    let owned = || {
        let captains = r#"{.metadata.managedFields[?(@.manager=="captain")].fieldsV1}"#;
        cluster
            .field("boats.v1.harbour.example.com/cleo", captains)
            .unwrap()
    };
    apply("captain", false, boat("v1", "cleo", "crew: 5")).unwrap();
    apply("boatswain", false, boat("v2", "cleo", "rowers: 4, cox: true")).expect("the same crew");
    assert_has(&owned(), &["f:crew"]);
    let refused = apply("boatswain", false, boat("v2", "cleo", "rowers: 6, cox: true"));
    assert_has(&refused.unwrap_err(), &[r#"conflict with "captain": .spec.crew"#]);
    apply("boatswain", true, boat("v2", "cleo", "rowers: 6, cox: true")).unwrap();
    let left = owned();
    assert_has(&left, &["f:labels"]);
    assert!(!left.contains("f:crew"), "{left}");
    cluster.ok(&["delete", "boats.v2.harbour.example.com", "cleo"]);
}

/// Rules and conditions that know one version are about all, unless they say otherwise.
fn those_who_know_one_version_are_asked_in_it(
    cluster: &Cluster,
    server: &Webhook,
    boat: &dyn Fn(&str, &str, &str) -> String,
) {
    let hook = |policy: &str| {
        let more = json!({"matchPolicy": policy,
            "rules": [{"operations": ["CREATE"], "apiGroups": ["harbour.example.com"], "apiVersions": ["v1"],
                "resources": ["boats"]}],
            "matchConditions": [{"name": "crowded", "expression": "object.spec.crew > 20"}]});
        cluster.hook(
            "Validating",
            "crews",
            &about_maps("crews", &server.client("/deny"), &more),
        );
    };
    let tried = |name: &str, rowers: u32| {
        let boat = boat("v2", name, &format!("rowers: {rowers}, cox: true"));
        cluster.feed(&["create", "--dry-run=server", "-f", "-"], &boat)
    };
    hook("Equivalent");
    let refused = eventually("a refusal", || match tried("full", 30) {
        Ok(said) => Err(said),
        Err(why) => Ok(why),
    });
    assert_has(&refused, &["not on my watch"]);
    let asked = server.requests();
    let asked = asked
        .iter()
        .rfind(|request| request["name"] == "full")
        .expect("the question");
    assert_eq!(asked["version"], "harbour.example.com/v1");
    tried("light", 3).expect("a small crew");
    hook("Exact");
    eventually("the narrower rule", || tried("full", 30));
    cluster.ok(&["delete", "validatingwebhookconfiguration", "crews"]);
}

fn lists_and_watches(cluster: &Cluster) {
    let listed = cluster.ok(&[
        "get",
        "boats.v2.harbour.example.com",
        "-o",
        "jsonpath={.items[*].spec.rowers}",
    ]);
    assert_eq!(listed, "4 8");
    let path =
        "/apis/harbour.example.com/v2/namespaces/default/boats?watch=true&timeoutSeconds=1&resourceVersion=0";
    let watched = cluster.ok(&["get", "--raw", path]);
    let events = watched
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut rowers: Vec<i64> = events
        .filter_map(|e| e["object"]["spec"]["rowers"].as_i64())
        .collect();
    rowers.sort_unstable();
    assert_eq!(rowers, [4, 8], "{watched}");
}

/// A pod that runs the webhook server of this machine, whose whole file system it sees.
fn hook_pod(folder: &Path) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hook", "labels": {"app": "hook"}},
        "spec": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}], "containers": [{
            "name": "hook", "image": "local/busybox:1", "volumeMounts": [{"name": "host", "mountPath": "/host"}],
            "command": ["chroot", "/host", webhook::program(), "0.0.0.0:8443", folder, "hook.default.svc"],
            "ports": [{"containerPort": 8443}],
            "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1}}]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]},
    });
    format!("{pod}\n---\n{service}\n")
}

#[test]
fn a_webhook_in_a_pod_of_another_machine_is_reached_over_its_agents_connection() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let edge = hosts.add("edge", Place::BehindNat);
        let server = Cluster::start_on(&hosts.first(), "server", &[]);
        let token = server.dir.join("agent-token").display().to_string();
        let url = format!("https://{NODE_IP}:6443");
        let agent = Cluster::start_on(&edge, "agent", &["--server", &url, "--token-file", &token]);
        agent.busybox();
        server.until(
            "node/edge",
            "{.status.conditions[?(@.type==\"Ready\")].status}",
            "True",
        );
        let folder = dir.join("hook");
        std::fs::create_dir_all(&folder).unwrap();
        server.apply(&hook_pod(&folder));
        server.apply(&idle_pod("box"));
        server.pod_ready("hook");
        server.pod_ready("box");
        assert_eq!(server.exec("box", &["echo", "free"]).unwrap(), "free\n");

        let client = json!({"service": {"namespace": "default", "name": "hook", "path": "/deny"},
            "caBundle": webhook::bundle(&folder)});
        let commands = json!({"matchConditions": [], "rules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
            {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]}]});
        let name = server.hook("Validating", "guard", &about_maps("guard", &client, &commands));
        refused(
            &server,
            &["admission webhook \"guard.example.com\" denied the request: not on my watch"],
        );
        let why = server.exec("box", &["echo", "free"]).unwrap_err();
        assert_has(
            &why,
            &["admission webhook \"guard.example.com\" denied the request: not on my watch"],
        );

        server.ok(&["delete", "pod", "hook", "--grace-period=1"]);
        refused(&server, &["no endpoints available for service \"hook\""]);
        server.ok(&["delete", &name]);
        allowed(&server);
        drop(agent);
    });
}
