//! What is refused, in Kubernetes' own words, and what is lost by it: nothing.

use crate::support::rest::As;
use crate::support::tools::oldest_and_newest;
use crate::support::{Cluster, assert_has, sandboxed};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn malformed_bodies_are_refused() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let post = |body: &str| cluster.post(CONFIGMAPS, body);
        post(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":"#).is(
            400,
            "BadRequest",
            &[
                "the object provided is unrecognized (must be of type ConfigMap)",
                "couldn't get version/kind; json parse error: unexpected end of JSON input",
            ],
        );
        post(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"n":1}}"#).is(400, "BadRequest", &[
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#,
        ]);
        post(r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#).is(
            400,
            "BadRequest",
            &["cannot be handled as a ConfigMap"],
        );
        let yaml = cluster.call(
            &As::Admin,
            "POST",
            CONFIGMAPS,
            "application/yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\n",
        );
        yaml.is(400, "BadRequest", &["yaml"]);
        let odd = cluster.call(&As::Admin, "POST", CONFIGMAPS, "text/plain", "hello");
        odd.is(
            415,
            "UnsupportedMediaType",
            &["the body of the request was in an unknown format - accepted media types include:"],
        );
        cluster.call(&As::Admin, "GET", "/api/v1/unicorns", "", "").is(
            404,
            "NotFound",
            &["the server could not find the requested resource"],
        );
        cluster
            .call(&As::Admin, "POST", &format!("{CONFIGMAPS}/a"), "", "")
            .is(
                405,
                "MethodNotAllowed",
                &["the server does not allow this method on the requested resource"],
            );
        // YAML that is right is taken.
        let yaml = cluster.call(
            &As::Admin,
            "POST",
            CONFIGMAPS,
            "application/yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        );
        assert_eq!(yaml.code, 201, "{yaml:?}");
    });
}

#[test]
fn unknown_and_duplicate_fields_are_refused_or_told() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dat":{"n":"1"},"data":{"x":"1","x":"2"}}"#;
        let strict = cluster.post(&format!("{CONFIGMAPS}?fieldValidation=Strict"), body);
        strict.is(
            400,
            "BadRequest",
            &[
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: "#,
                r#"unknown field "dat""#,
                r#"duplicate field "data.x""#,
            ],
        );
        let ignored = cluster.post(&format!("{CONFIGMAPS}?fieldValidation=Ignore"), body);
        assert_eq!(
            (ignored.code, ignored.body["data"]["x"].as_str()),
            (201, Some("2")),
            "{ignored:?}"
        );
        for (_, kubectl) in oldest_and_newest() {
            cluster.with(&kubectl);
            let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: i, imagePolicy: Always}\n";
            let refused = cluster.feed(&["create", "-f", "-"], manifest).unwrap_err();
            assert_has(&refused, &[r#"unknown field "spec.containers[0].imagePolicy""#]);
            let out = cluster.kubectl(&["create", "--validate=warn", "--dry-run=server", "-f", "-"]);
            let warned = crate::support::said::feed(out, manifest);
            assert_has(
                &warned,
                &[
                    r#"Warning: unknown field "spec.containers[0].imagePolicy""#,
                    "pod/p created (server dry run)",
                ],
            );
            let apply = ["apply", "--server-side", "--validate=false", "-f", "-"];
            assert_has(
                &cluster.feed(&apply, manifest).unwrap_err(),
                &[
                    "failed to create typed patch object (default/p; /v1, Kind=Pod): ",
                    r#".spec.containers[name="c"].imagePolicy: field not declared in schema"#,
                ],
            );
            let odd = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: i\n    env: [{name: A, value: b}, {name: A, value: c}]\n";
            let out = cluster.kubectl(&["create", "--dry-run=server", "-f", "-"]);
            let warned = crate::support::said::feed(out, odd);
            let hides = r#"Warning: spec.containers[0].env[1]: hides previous definition of "A""#;
            assert_has(&warned, &[hides, "pod/p created (server dry run)"]);
        }
    });
}

#[test]
fn invalid_objects_are_refused_with_every_reason() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        for (_, kubectl) in oldest_and_newest() {
            cluster.with(&kubectl);
            let name = cluster.refused(&["create", "configmap", "Bad_Name"]);
            assert_has(
                &name,
                &[
                    r#"metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                ],
            );
            let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: C, ports: [{containerPort: 99999}]}\n";
            let why = cluster.feed(&["create", "-f", "-"], pod).unwrap_err();
            assert_has(
                &why,
                &[
                    r#"The Pod "p" is invalid:"#,
                    r#"spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of"#,
                    "spec.containers[0].image: Required value",
                    "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
                ],
            );
            let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}\n";
            let why = cluster.feed(&["create", "-f", "-"], deployment).unwrap_err();
            assert_has(
                &why,
                &[
                    r#"The Deployment "d" is invalid: spec.template.metadata.labels: Invalid value:"#,
                    "`selector` does not match template `labels`",
                ],
            );
            let why = cluster.refused(&["create", "configmap", "lost", "-n", "nowhere"]);
            assert_has(&why, &[r#"namespaces "nowhere" not found"#]);
        }
        cluster
            .post(
                CONFIGMAPS,
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"other"}}"#,
            )
            .is(
                400,
                "BadRequest",
                &["the namespace of the provided object does not match the namespace sent on the request"],
            );
        let details = cluster.post(
            CONFIGMAPS,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"A"}}"#,
        );
        details.is(422, "Invalid", &[r#"ConfigMap "A" is invalid"#]);
        assert_eq!(details.body["details"]["causes"][0]["field"], "metadata.name");
        assert_eq!(
            details.body["details"]["causes"][0]["reason"],
            "FieldValueInvalid"
        );
    });
}

#[test]
fn what_is_immutable_stays() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let patch =
            |object: &str, body: &str| cluster.refused(&["patch", object, "--type=merge", "-p", body]);
        cluster.apply(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: b}}",
        );
        assert_has(
            &patch("configmap/fixed", r#"{"data":{"a":"c"}}"#),
            &["data: Forbidden: field is immutable when `immutable` is set"],
        );
        cluster.ok(&["create", "deployment", "d", "--image=absent:1", "--replicas=0"]);
        assert_has(
            &patch(
                "deployment/d",
                r#"{"spec":{"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}"#,
            ),
            &["spec.selector: Invalid value:", "field is immutable"],
        );
        cluster.ok(&["create", "service", "clusterip", "s", "--tcp=80"]);
        assert_has(
            &patch(
                "service/s",
                r#"{"spec":{"clusterIP":"10.43.9.9","clusterIPs":["10.43.9.9"]}}"#,
            ),
            &["spec.clusterIPs[0]: Invalid value:", "may not change once set"],
        );
        cluster.ok(&["run", "p", "--image=absent:1", "--image-pull-policy=Never"]);
        assert_has(
            &patch("pod/p", r#"{"spec":{"restartPolicy":"Never"}}"#),
            &[
                r#"The Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"#,
            ],
        );
        assert_has(
            &patch("configmap/fixed", r#"{"metadata":{"name":"other"}}"#),
            &["the name of the object (other) does not match the name on the URL (fixed)"],
        );
        assert_has(
            &patch("configmap/fixed", r#"{"metadata":{"uid":"0"}}"#),
            &["Precondition failed: UID in precondition: 0, UID in object meta:"],
        );
        assert_eq!(cluster.field("configmap/fixed", "{.data.a}").unwrap(), "b");
    });
}

#[test]
fn a_stale_write_loses_nothing() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "configmap", "c", "--from-literal=a=1"]);
        let stale = cluster.ok(&["get", "configmap", "c", "-o", "json"]);
        cluster.ok(&["patch", "configmap", "c", "-p", r#"{"data":{"a":"2"}}"#]);
        let path = format!("{CONFIGMAPS}/c");
        cluster.call(&As::Admin, "PUT", &path, "application/json", &stale).is(409, "Conflict", &[
            r#"Operation cannot be fulfilled on configmaps "c": the object has been modified; please apply your changes to the latest version and try again"#,
        ]);
        assert_eq!(cluster.field("configmap/c", "{.data.a}").unwrap(), "2");
        let wrong = r#"{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"not-this-one"}}"#;
        cluster
            .call(&As::Admin, "DELETE", &path, "application/json", wrong)
            .is(
                409,
                "Conflict",
                &[
                    r#"Operation cannot be fulfilled on ConfigMap "c": the UID in the precondition (not-this-one) does not match the UID in record ("#,
                    "The object might have been deleted and then recreated",
                ],
            );
        let old = r#"{"preconditions":{"resourceVersion":"1"}}"#;
        cluster.call(&As::Admin, "DELETE", &path, "application/json", old).is(
            409,
            "Conflict",
            &["the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ("],
        );
        let odd = cluster.call(
            &As::Admin,
            "GET",
            &format!("{CONFIGMAPS}?resourceVersion=abc&watch=true"),
            "",
            "",
        );
        assert_eq!(odd.code, 400, "{odd:?}");
        cluster
            .call(
                &As::Admin,
                "GET",
                &format!("{CONFIGMAPS}?limit=1&continue=garbage"),
                "",
                "",
            )
            .is(400, "BadRequest", &["continue key is not valid"]);
        cluster.ok(&["get", "configmap", "c"]);
    });
}

#[test]
fn a_pod_that_fits_nowhere_waits_and_says_why() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let pod = |name: &str, more: &str| {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: main\n    image: local/hello-http:1\n{more}\n"
            ));
        };
        pod("large", "    resources: {requests: {cpu: \"1000\"}}");
        cluster.event(
            "large",
            "FailedScheduling",
            &["0/1 nodes are available: 1 Insufficient cpu."],
        );
        cluster.until(
            "pod/large",
            "{.status.conditions[?(@.type==\"PodScheduled\")].reason}",
            "Unschedulable",
        );
        assert_has(&cluster.ok(&["get", "pod", "large"]), &["Pending"]);
        pod("picky", "  nodeSelector: {colour: red}");
        cluster.event(
            "picky",
            "FailedScheduling",
            &["1 node(s) didn't match Pod's node affinity/selector"],
        );
        // It runs as soon as it can.
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        cluster.ok(&["label", "node", &node, "colour=red"]);
        cluster.pod_ready("picky");
        cluster.ok(&["taint", "node", &node, "keep=out:NoSchedule"]);
        pod("tainted", "");
        cluster.event(
            "tainted",
            "FailedScheduling",
            &["1 node(s) had untolerated taint"],
        );
        cluster.ok(&["taint", "node", &node, "keep-"]);
        cluster.pod_ready("tainted");
    });
}

#[test]
fn what_a_pod_refers_to_must_exist_before_it_starts() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: env}
spec:
  containers:
  - {name: main, image: "local/hello-http:1", envFrom: [{configMapRef: {name: later}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: file}
spec:
  containers:
  - {name: main, image: "local/hello-http:1", volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, configMap: {name: later}}]
"#,
        );
        cluster.until(
            "pod/env",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "CreateContainerConfigError",
        );
        cluster.event("env", "Failed", &["configmap \"later\" not found"]);
        cluster.event(
            "file",
            "FailedMount",
            &[
                "MountVolume.SetUp failed for volume \"v\"",
                "configmap \"later\" not found",
            ],
        );
        cluster.until(
            "pod/file",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "ContainerCreating",
        );
        cluster.ok(&["create", "configmap", "later", "--from-literal=k=v"]);
        cluster.pod_ready("env");
        cluster.pod_ready("file");
    });
}
