//! The commands that people type, with every kubectl that is found.

use std::process::Stdio;

use crate::support::tools::supported;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

/// Runs `scenario` once with each kubectl, each in a namespace of its own.
fn with_each(cluster: &mut Cluster, scenario: impl Fn(&Cluster)) {
    for (minor, kubectl) in supported() {
        eprintln!("with kubectl 1.{minor}");
        cluster.with(&kubectl);
        let namespace = format!("with-{minor}");
        cluster.ok(&["create", "namespace", &namespace]);
        cluster.ok(&["config", "set-context", "--current", "--namespace", &namespace]);
        eventually("the default account", || {
            cluster.try_ok(&["get", "serviceaccount", "default"])
        });
        scenario(cluster);
        cluster.ok(&["config", "set-context", "--current", "--namespace=default"]);
        cluster.ok(&["delete", "namespace", &namespace]);
    }
}

#[test]
fn objects_are_created_read_changed_and_deleted() {
    sandboxed(|dir| {
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            cluster.ok(&["create", "configmap", "words", "--from-literal=a=1"]);
            assert_eq!(cluster.field("configmap/words", "{.data.a}").unwrap(), "1");
            let again = cluster.refused(&["create", "configmap", "words"]);
            assert_has(&again, &[r#"configmaps "words" already exists"#]);
            cluster.ok(&["label", "configmap", "words", "colour=red"]);
            assert_has(
                &cluster.refused(&["label", "configmap", "words", "colour=blue"]),
                &["--overwrite"],
            );
            cluster.ok(&["label", "configmap", "words", "colour=blue", "--overwrite"]);
            cluster.ok(&["annotate", "configmap", "words", "note=a b c"]);
            assert_eq!(
                cluster
                    .field("configmap/words", "{.metadata.annotations.note}")
                    .unwrap(),
                "a b c"
            );
            cluster.ok(&["label", "configmap", "words", "colour-"]);
            assert_eq!(
                cluster.field("configmap/words", "{.metadata.labels}").unwrap(),
                ""
            );
            let gone = |name: &str| {
                assert_has(
                    &cluster.refused(&["get", "configmap", name]),
                    &[&format!("configmaps {name:?} not found")],
                )
            };
            assert_has(
                &cluster.ok(&["delete", "configmap", "words"]),
                &[r#"configmap "words" deleted"#],
            );
            gone("words");
            cluster.ok(&["create", "secret", "generic", "key", "--from-literal=k=v"]);
            assert_eq!(cluster.field("secret/key", "{.data.k}").unwrap(), "dg==");
            cluster.ok(&["create", "-f", &manifest(cluster, "made", "x: one")]);
            cluster.ok(&["replace", "-f", &manifest(cluster, "made", "x: two")]);
            assert_eq!(cluster.field("configmap/made", "{.data.x}").unwrap(), "two");
            cluster.ok(&["delete", "-f", &manifest(cluster, "made", "x: two"), "--wait"]);
            gone("made");
        });
    });
}

/// A file with a ConfigMap of one line of data.
fn manifest(cluster: &Cluster, name: &str, data: &str) -> String {
    let file = cluster.home().join(format!("{name}.yaml"));
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  {data}\n");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn apply_merges_from_both_sides() {
    sandboxed(|dir| {
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            let value = |path: &str| cluster.field("configmap/merged", path).unwrap();
            let file = manifest(cluster, "merged", "a: '1'\n  b: '2'");
            assert_has(
                &cluster.ok(&["apply", "-f", &file]),
                &["configmap/merged created"],
            );
            assert_has(
                &cluster.ok(&["apply", "-f", &file]),
                &["configmap/merged unchanged"],
            );
            cluster.ok(&[
                "patch",
                "configmap",
                "merged",
                "-p",
                r#"{"data":{"mine":"kept"}}"#,
            ]);
            let diff = cluster.run(&["diff", "-f", &manifest(cluster, "merged", "a: '3'")]);
            assert_eq!(
                diff.status.code(),
                Some(1),
                "{}",
                String::from_utf8_lossy(&diff.stderr)
            );
            assert_has(
                &String::from_utf8_lossy(&diff.stdout),
                &["-  a: \"1\"", "+  a: \"3\"", "-  b: \"2\""],
            );
            assert_has(
                &cluster.ok(&["apply", "-f", &file]),
                &["configmap/merged configured"],
            );
            assert_eq!(
                (value("{.data.a}"), value("{.data.b}"), value("{.data.mine}")),
                ("3".into(), String::new(), "kept".into())
            );
            assert_eq!(cluster.run(&["diff", "-f", &file]).status.code(), Some(0));

            // Server-side: a field has an owner, and taking it needs force.
            let file = manifest(cluster, "owned", "a: '1'");
            let apply = |manager: &str, file: &str, more: &[&str]| {
                let field_manager = format!("--field-manager={manager}");
                cluster.try_ok(&[&["apply", "--server-side", &field_manager, "-f", file], more].concat())
            };
            assert_has(
                &apply("alice", &file, &[]).unwrap(),
                &["configmap/owned serverside-applied"],
            );
            let file = manifest(cluster, "owned", "a: '2'");
            let conflict = apply("bob", &file, &[]).unwrap_err();
            assert_has(
                &conflict,
                &["Apply failed with 1 conflict: conflict with \"alice\"", ".data.a"],
            );
            apply("bob", &file, &["--force-conflicts"]).unwrap();
            assert_eq!(cluster.field("configmap/owned", "{.data.a}").unwrap(), "2");
            let managers = cluster.ok(&[
                "get",
                "configmap",
                "owned",
                "--show-managed-fields",
                "-o",
                "jsonpath={.metadata.managedFields[*].manager}",
            ]);
            assert_has(&managers, &["bob"]);
            // What its owner no longer applies goes.
            apply("bob", &manifest(cluster, "owned", "c: '3'"), &[]).unwrap();
            assert_eq!(
                cluster.field("configmap/owned", "{.data}").unwrap(),
                r#"{"c":"3"}"#
            );
        });
    });
}

#[test]
fn lists_are_shown_in_every_form() {
    sandboxed(|dir| {
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            for (name, tier) in [("one", "front"), ("two", "front"), ("three", "back")] {
                cluster.ok(&["create", "configmap", name, "--from-literal=k=v"]);
                cluster.ok(&["label", "configmap", name, &format!("tier={tier}")]);
            }
            assert_has(
                &cluster.ok(&["get", "configmaps"]),
                &["NAME", "DATA", "AGE", "one", "two", "three"],
            );
            assert_has(
                &cluster.ok(&["get", "cm", "-o", "wide", "--show-labels"]),
                &["tier=back", "LABELS"],
            );
            assert_has(&cluster.ok(&["get", "cm", "-L", "tier"]), &["TIER", "front"]);
            let json: serde_json::Value =
                serde_json::from_str(&cluster.ok(&["get", "cm", "-o", "json"])).unwrap();
            assert_eq!(
                json["items"].as_array().unwrap().len(),
                4,
                "three and kube-root-ca.crt"
            );
            assert_eq!(json["items"][0]["kind"], "ConfigMap");
            assert_has(
                &cluster.ok(&["get", "cm", "one", "-o", "yaml"]),
                &["apiVersion: v1\n", "kind: ConfigMap", "k: v"],
            );
            assert_eq!(
                cluster.ok(&["get", "cm", "-l", "tier=front", "-o", "name"]),
                "configmap/one\nconfigmap/two\n"
            );
            assert_eq!(
                cluster.ok(&["get", "cm", "-l", "tier notin (front),tier", "-o", "name"]),
                "configmap/three\n"
            );
            assert_eq!(
                cluster.ok(&["get", "cm", "--field-selector", "metadata.name=two", "-o", "name"]),
                "configmap/two\n"
            );
            let columns = cluster.ok(&[
                "get",
                "cm",
                "-l",
                "tier",
                "--sort-by=.metadata.name",
                "-o",
                "custom-columns=N:.metadata.name,T:.metadata.labels.tier",
            ]);
            let rows: Vec<_> = columns
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .collect();
            assert_eq!(
                rows,
                [["N", "T"], ["one", "front"], ["three", "back"], ["two", "front"]]
            );
            // In pieces the list is the same.
            for n in 0..7 {
                cluster.ok(&["create", "configmap", &format!("n{n}")]);
            }
            assert_eq!(
                cluster.ok(&["get", "cm", "--chunk-size=3", "-o", "name"]),
                cluster.ok(&["get", "cm", "-o", "name"])
            );
            assert_has(
                &cluster.refused(&["get", "cm", "--field-selector", "data.x=1"]),
                &["\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""],
            );
            assert_has(&cluster.ok(&["get", "all"]), &[]);
            assert_has(
                &cluster.ok(&["get", "configmaps", "-A"]),
                &["NAMESPACE", "kube-root-ca.crt", "kube-system"],
            );
            assert_has(
                &cluster.run_both(&["get", "pods"]),
                &["No resources found in with-"],
            );
        });
    });
}

#[test]
fn a_watch_shows_changes_as_they_come() {
    sandboxed(|dir| {
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            let file = cluster.home().join("watched");
            let out = std::fs::File::create(&file).unwrap();
            let mut watch = cluster
                .kubectl(&["get", "cm", "-l", "!x", "-w", "--output-watch-events"])
                .stdout(Stdio::from(out))
                .spawn()
                .unwrap();
            let shows = |words: &[&str]| {
                eventually("the watch", || {
                    let text = std::fs::read_to_string(&file).unwrap();
                    has(&text.split_whitespace().collect::<Vec<_>>().join(" "), words)
                });
            };
            shows(&["EVENT NAME DATA AGE", "ADDED kube-root-ca.crt 1"]);
            cluster.ok(&["create", "cm", "seen", "--from-literal=v=first"]);
            shows(&["ADDED seen 1"]);
            cluster.ok(&["patch", "cm", "seen", "-p", r#"{"data":{"w":"second"}}"#]);
            shows(&["MODIFIED seen 2"]);
            // Out of the selection is deleted for this watch.
            cluster.ok(&["label", "cm", "seen", "x=1"]);
            shows(&["DELETED seen 2"]);
            watch.kill().unwrap();
            watch.wait().unwrap();
        });
    });
}

#[test]
fn patches_of_three_types_and_an_editor_change_objects() {
    sandboxed(|dir| {
        let editor = dir.join("editor");
        std::fs::write(
            &editor,
            "#!/bin/sh\nsed -i 's/image: old:1/image: edited:2/' \"$1\"\n",
        )
        .unwrap();
        std::process::Command::new("chmod")
            .arg("+x")
            .arg(&editor)
            .status()
            .unwrap();
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            cluster.ok(&["create", "deployment", "d", "--image=old:1", "--replicas=0"]);
            let field = |path: &str| cluster.field("deployment/d", path).unwrap();
            let patch = |kind: &str, body: &str| {
                cluster.ok(&["patch", "deployment", "d", "--type", kind, "-p", body])
            };
            // Strategic: the list of containers is merged by name.
            patch(
                "strategic",
                r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:1"}]}}}}"#,
            );
            assert_eq!(field("{.spec.template.spec.containers[*].name}"), "side old");
            // JSON: operations, with a test that guards them.
            patch(
                "json",
                r#"[{"op":"test","path":"/spec/replicas","value":0},{"op":"remove","path":"/spec/template/spec/containers/0"}]"#,
            );
            assert_eq!(field("{.spec.template.spec.containers[*].name}"), "old");
            // Merge: lists are replaced, null removes.
            patch(
                "merge",
                r#"{"metadata":{"annotations":{"a":"b"}},"spec":{"minReadySeconds":3}}"#,
            );
            assert_eq!(field("{.metadata.annotations.a}{.spec.minReadySeconds}"), "b3");
            patch("merge", r#"{"metadata":{"annotations":{"a":null}}}"#);
            assert_eq!(field("{.metadata.annotations.a}"), "");

            let out = cluster
                .kubectl(&["edit", "deployment", "d"])
                .env("EDITOR", &editor)
                .output()
                .unwrap();
            assert_has(
                &crate::support::said::said(out).unwrap(),
                &["deployment.apps/d edited"],
            );
            assert_eq!(field("{.spec.template.spec.containers[0].image}"), "edited:2");
        });
    });
}

#[test]
fn kinds_explain_themselves() {
    sandboxed(|dir| {
        with_each(&mut Cluster::start(dir, &[]), |cluster| {
            let resources = cluster.ok(&["api-resources"]);
            assert_has(
                &resources,
                &[
                    "configmaps",
                    "cm",
                    "deployments",
                    "deploy",
                    "apps/v1",
                    "Pod",
                    "leases",
                    "clusterrolebindings",
                ],
            );
            assert_has(
                &cluster.ok(&["api-resources", "--api-group=apps", "-o", "name"]),
                &["deployments.apps", "replicasets.apps"],
            );
            assert_has(
                &cluster.ok(&[
                    "api-resources",
                    "--verbs=list",
                    "--namespaced=false",
                    "-o",
                    "wide",
                ]),
                &["nodes", "deletecollection"],
            );
            assert_has(
                &cluster.ok(&["api-versions"]),
                &["apps/v1", "rbac.authorization.k8s.io/v1", "v1"],
            );
            assert_has(
                &cluster.ok(&["explain", "pod.spec.containers.image"]),
                &["KIND:", "Pod", "VERSION:", "v1", "image"],
            );
            assert_has(
                &cluster.ok(&["explain", "deployment", "--recursive"]),
                &["replicas", "containerPort"],
            );
            assert_has(
                &cluster.ok(&["explain", "pod.spec.restartPolicy"]),
                &["Possible enum values", "\"OnFailure\""],
            );
            assert_has(&cluster.ok(&["explain", "pvc.spec.accessModes"]), &["<[]string>"]);
            assert_has(
                &cluster.refused(&["explain", "pod.spec.nonsense"]),
                &["does not exist"],
            );
            let version = cluster.ok(&["version"]);
            assert_has(&version, &["Client Version", "Server Version: ", "v1.36"]);
            assert_has(
                &cluster.run_both(&["cluster-info"]),
                &["Kubernetes control plane", "is running at"],
            );
            assert_has(
                &cluster.refused(&["get", "unicorns"]),
                &["the server doesn't have a resource type \"unicorns\""],
            );
        });
    });
}

#[test]
fn pods_are_run_exposed_described_and_awaited() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        with_each(&mut cluster, |cluster| {
            cluster.ok(&[
                "run",
                "web",
                "--image=local/hello-http:1",
                "--port=8080",
                "--labels=app=web",
            ]);
            cluster.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=90s"]);
            assert_has(
                &cluster.ok(&["expose", "pod", "web", "--port=80", "--target-port=8080"]),
                &["service/web exposed"],
            );
            let url = format!("http://{}/", cluster.cluster_ip("web"));
            eventually("the exposed pod", || cluster.curl(&url));
            let described = cluster.ok(&["describe", "pod", "web"]);
            assert_has(
                &described,
                &[
                    "Name:",
                    "web",
                    "Status:",
                    "Running",
                    "Image:",
                    "local/hello-http:1",
                    "Scheduled",
                    "Pulled",
                    "Started",
                    "QoS Class:",
                ],
            );
            let service = cluster.ok(&["describe", "service", "web"]);
            assert_has(
                &service,
                &[
                    "Selector:",
                    "app=web",
                    "Endpoints:",
                    &format!("{}:8080", cluster.pod_ip("web")),
                ],
            );
            let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
            assert_has(
                &cluster.ok(&["describe", "node", &node]),
                &["Capacity:", "Allocated resources", "web"],
            );
            assert_has(
                &cluster.ok(&["events", "--for", "pod/web"]),
                &["Scheduled", "Started"],
            );
            assert_has(&cluster.ok(&["get", "events"]), &["LAST SEEN", "pod/web"]);
            assert_has(
                &cluster.ok(&["get", "pod", "web", "-o", "wide"]),
                &["1/1", "Running", &node, "<none>"],
            );

            // A pod that is run for what it makes of what is typed.
            let run = [
                "run",
                "once",
                "--image=local/busybox:1",
                "--restart=Never",
                "--rm",
                "-i",
                "--quiet",
                "--command",
                "--",
                "cat",
            ];
            let said = cluster.feed(&run, "only this\n").unwrap();
            assert_has(&said, &["only this"]);
            assert_has(&cluster.refused(&["get", "pod", "once"]), &["not found"]);

            cluster.ok(&["delete", "pod", "web", "--wait=false"]);
            cluster.ok(&["wait", "--for=delete", "pod/web", "--timeout=90s"]);
            let timeout = cluster.refused(&[
                "wait",
                "--for=jsonpath={.spec.type}=NodePort",
                "service/web",
                "--timeout=1s",
            ]);
            assert_has(&timeout, &["timed out waiting for the condition on services/web"]);
        });
    });
}
