//! Pods that a folder of the machine asks for, and the orderly end of a node, by the real binary.

use std::fs;

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn manifest(word: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: own, labels: {{app: own}}}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, "echo {word}; {IDLE}"]
  - {{name: wasm, image: "local/hello-http:1"}}
"#
    )
}

#[test]
fn a_folder_of_manifests_runs_with_and_without_a_server() {
    sandboxed(|dir| {
        let folder = dir.join("manifests");
        fs::create_dir(&folder).expect("a folder");
        let path = folder.display().to_string();
        let cluster = Cluster::stocked(dir, &["--static-pod-path", &path]);
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let name = format!("own-{node}");
        fs::write(folder.join("own.yaml"), manifest("first")).expect("a manifest");
        eventually("the mirror pod", || {
            cluster.field(&format!("pod/{name}"), "{.metadata.uid}")
        });
        cluster.pod_ready(&name);
        let pod = cluster.ok(&["get", "pod", &name, "-o", "yaml"]);
        assert_has(
            &pod,
            &[
                "kubernetes.io/config.source: file",
                "kubernetes.io/config.mirror:",
                "kind: Node",
            ],
        );
        cluster.logged(&name, Some("main"), &["first"]);
        let ip = cluster.pod_ip(&name);
        assert!(cluster.curl(&format!("http://{ip}:8080/")).is_ok());

        // Who deletes it in the API deletes what is shown of it.
        let uid = || cluster.field(&format!("pod/{name}"), "{.metadata.uid}");
        let before = uid().unwrap();
        cluster.ok(&["delete", "pod", &name, "--wait=false"]);
        eventually("another mirror pod", || match uid()? {
            now if now != before => Ok(()),
            _ => Err("still the same".to_owned()),
        });
        cluster.pod_ready(&name);
        assert_eq!(cluster.pod_ip(&name), ip);
        let restarts = "{.status.containerStatuses[*].restartCount}";
        assert_eq!(cluster.field(&format!("pod/{name}"), restarts).unwrap(), "0 0");

        // A new version takes the place of the old one, and a file that goes takes its pod along.
        fs::write(folder.join("own.yaml"), manifest("second")).expect("a manifest");
        cluster.logged(&name, Some("main"), &["second"]);
        cluster.pod_ready(&name);
        fs::remove_file(folder.join("own.yaml")).expect("no manifest");
        cluster.ok(&["wait", "--for=delete", &format!("pod/{name}"), "--timeout=60s"]);
    });
}

#[test]
fn a_node_that_is_shut_down_gives_its_pods_time() {
    sandboxed(|dir| {
        let args = [
            "--shutdown-grace-period",
            "8",
            "--shutdown-grace-period-critical-pods",
            "4",
        ];
        let mut cluster = Cluster::stocked(dir, &args);
        let said = dir.join("said");
        let pod = |name: &str, priority: &str| {
            format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: kube-system}}
spec:
  restartPolicy: Never
  {priority}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, "trap 'echo {name} >> /said; exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done"]
    readinessProbe: {{exec: {{command: [cat, /tmp/up]}}, periodSeconds: 1}}
    volumeMounts: [{{name: said, mountPath: /said}}]
  volumes: [{{name: said, hostPath: {{path: {path}, type: FileOrCreate}}}}]
"#,
                path = said.display()
            )
        };
        cluster.apply(&pod("important", "priorityClassName: system-node-critical"));
        cluster.apply(&pod("ordinary", ""));
        for name in ["important", "ordinary"] {
            cluster.ok(&[
                "wait",
                "-n",
                "kube-system",
                "--for=condition=Ready",
                &format!("pod/{name}"),
                "--timeout=60s",
            ]);
        }
        cluster.stop();
        assert_eq!(
            fs::read_to_string(&said).expect("what was said"),
            "ordinary\nimportant\n"
        );
        cluster.restart();
        cluster.ready();
        for name in ["important", "ordinary"] {
            let path = "{.status.phase} {.status.reason} {.status.message}";
            let args = [
                "get",
                "pod",
                name,
                "-n",
                "kube-system",
                "-o",
                &format!("jsonpath={path}"),
            ];
            assert_eq!(
                cluster.ok(&args),
                "Failed Terminated Pod was terminated in response to imminent node shutdown."
            );
        }
    });
}
