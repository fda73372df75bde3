//! Deployments that change, and deletion in its three ways.

use crate::support::manifests::{BUSYBOX, idle_pod};
use crate::support::tools::oldest_and_newest;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

#[test]
fn a_deployment_rolls_out_and_back() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.import(
            &crate::support::tools::guest("hello-http.wasm"),
            &["--name", "local/hello-http:2"],
        );
        for (minor, kubectl) in oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            let image = |wanted: &str| {
                cluster.until(
                    "deployment/web",
                    "{.spec.template.spec.containers[0].image}",
                    wanted,
                );
                cluster.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
                cluster.deployed("web", 2);
                let found = cluster.ok(&[
                    "get",
                    "pods",
                    "-l",
                    "app=web",
                    "-o",
                    "jsonpath={.items[*].spec.containers[0].image}",
                ]);
                assert!(found.split_whitespace().all(|image| image == wanted), "{found}");
            };
            cluster.ok(&[
                "create",
                "deployment",
                "web",
                "--image=local/hello-http:1",
                "--replicas=2",
                "--port=8080",
            ]);
            image("local/hello-http:1");
            cluster.ok(&["set", "image", "deployment/web", "hello-http=local/hello-http:2"]);
            image("local/hello-http:2");
            let history = cluster.ok(&["rollout", "history", "deployment/web"]);
            assert_has(&history, &["REVISION", "\n1 ", "\n2 "]);
            assert_has(
                &cluster.ok(&["rollout", "history", "deployment/web", "--revision=1"]),
                &["local/hello-http:1"],
            );
            cluster.ok(&["rollout", "undo", "deployment/web"]);
            image("local/hello-http:1");
            assert_has(
                &cluster.ok(&["rollout", "history", "deployment/web"]),
                &["\n2 ", "\n3 "],
            );

            let before = cluster.pods("app=web");
            cluster.ok(&["rollout", "restart", "deployment/web"]);
            cluster.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
            cluster.deployed("web", 2);
            eventually("only new pods", || {
                let now = cluster.pods("app=web");
                if now.is_disjoint(&before) && now.len() == 2 {
                    Ok(())
                } else {
                    Err(format!("{now:?}"))
                }
            });

            // A broken rollout leaves the old replicas serving.
            cluster.ok(&["set", "image", "deployment/web", "hello-http=local/absent:1"]);
            let stuck = cluster.refused(&["rollout", "status", "deployment/web", "--timeout=3s"]);
            assert_has(&stuck, &["timed out"]);
            cluster.until("deployment/web", "{.status.availableReplicas}", "2");
            cluster.ok(&["rollout", "undo", "deployment/web"]);
            cluster.deployed("web", 2);

            cluster.ok(&["rollout", "pause", "deployment/web"]);
            cluster.ok(&["set", "env", "deployment/web", "A=b"]);
            let paused = cluster.pods("app=web");
            cluster.ok(&["scale", "deployment", "web", "--replicas=3"]);
            cluster.until("deployment/web", "{.status.availableReplicas}", "3");
            assert!(
                cluster.pods("app=web").is_superset(&paused),
                "a paused Deployment replaces nothing"
            );
            cluster.ok(&["rollout", "resume", "deployment/web"]);
            cluster.deployed("web", 3);

            cluster.ok(&["delete", "deployment", "web"]);
            eventually("no pods left", || {
                let left = cluster.pods("app=web");
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{left:?}"))
                }
            });
        }
    });
}

#[test]
fn deletion_takes_dependents_along_or_leaves_them() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        for (minor, kubectl) in oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            let count = |kind: &str| {
                cluster
                    .ok(&["get", kind, "-l", "app=web", "-o", "name"])
                    .lines()
                    .count()
            };
            let deploy = || {
                cluster.ok(&[
                    "create",
                    "deployment",
                    "web",
                    "--image=local/hello-http:1",
                    "--replicas=2",
                ]);
                cluster.deployed("web", 2);
            };
            let none = |kind: &str| {
                eventually(&format!("no {kind}"), || match count(kind) {
                    0 => Ok(()),
                    n => Err(format!("{n} left")),
                })
            };
            // Foreground: the owner goes last.
            deploy();
            cluster.ok(&["delete", "deployment", "web", "--cascade=foreground"]);
            assert_eq!((count("replicasets"), count("deployments")), (0, 0));
            none("pods");
            // Background: the owner first, the rest follows.
            deploy();
            cluster.ok(&["delete", "deployment", "web", "--cascade=background"]);
            none("replicasets");
            none("pods");
            // Orphan: the rest stays, without owner.
            deploy();
            cluster.ok(&["delete", "deployment", "web", "--cascade=orphan"]);
            assert_eq!((count("replicasets"), count("pods")), (1, 2));
            let owners = cluster.ok(&[
                "get",
                "replicasets",
                "-l",
                "app=web",
                "-o",
                "jsonpath={.items[*].metadata.ownerReferences}",
            ]);
            assert_eq!(owners, "");
            cluster.ok(&["delete", "replicaset", "-l", "app=web"]);
            none("pods");
        }
    });
}

#[test]
fn a_pod_is_given_time_to_end() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("polite"));
        cluster.pod_ready("polite");
        cluster.ok(&["delete", "pod", "polite"]);
        assert_has(&cluster.refused(&["get", "pod", "polite"]), &["not found"]);

        // One that does not listen ends when its grace is over, and is seen Terminating till then.
        let deaf = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: deaf}}, spec: {{containers: [{{name: main, image: {BUSYBOX}, \
             command: [sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]}}]}}}}"
        );
        cluster.apply(&deaf);
        cluster.pod_ready("deaf");
        cluster.ok(&["delete", "pod", "deaf", "--grace-period=3", "--wait=false"]);
        assert_has(&cluster.ok(&["get", "pod", "deaf"]), &["Terminating"]);
        assert_eq!(
            cluster
                .field("pod/deaf", "{.metadata.deletionGracePeriodSeconds}")
                .unwrap(),
            "3"
        );
        cluster.ok(&["wait", "--for=delete", "pod/deaf", "--timeout=90s"]);
        cluster.event("deaf", "Killing", &["Stopping container main"]);

        cluster.apply(&deaf);
        cluster.pod_ready("deaf");
        cluster.ok(&["delete", "pod", "deaf", "--grace-period=0", "--force"]);
        assert_has(&cluster.refused(&["get", "pod", "deaf"]), &["not found"]);
        // The name is free at once.
        cluster.apply(&idle_pod("deaf"));
        cluster.pod_ready("deaf");
    });
}

#[test]
fn a_namespace_takes_its_content_along() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.ok(&["create", "namespace", "brief"]);
        eventually("its account", || {
            cluster.try_ok(&["get", "serviceaccount", "default", "-n", "brief"])
        });
        cluster.ok(&[
            "create",
            "deployment",
            "web",
            "--image=local/hello-http:1",
            "-n",
            "brief",
        ]);
        cluster.ok(&[
            "create",
            "secret",
            "generic",
            "s",
            "--from-literal=a=b",
            "-n",
            "brief",
        ]);
        cluster.ok(&[
            "rollout",
            "status",
            "deployment/web",
            "-n",
            "brief",
            "--timeout=90s",
        ]);
        cluster.ok(&["delete", "namespace", "brief", "--timeout=90s"]);
        assert_has(
            &cluster.refused(&["get", "namespace", "brief"]),
            &["namespaces \"brief\" not found"],
        );
        assert_eq!(
            cluster.ok(&[
                "get",
                "pods,secrets,deployments",
                "-A",
                "--field-selector=metadata.namespace=brief",
                "-o",
                "name"
            ]),
            ""
        );
        assert_has(
            &cluster.refused(&["delete", "namespace", "default"]),
            &["this namespace may not be deleted"],
        );
        // Its name can be used again.
        cluster.ok(&["create", "namespace", "brief"]);
        eventually("its account", || {
            cluster.try_ok(&["get", "serviceaccount", "default", "-n", "brief"])
        });
        assert_eq!(cluster.ok(&["get", "secrets", "-n", "brief", "-o", "name"]), "");
    });
}
