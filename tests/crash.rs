//! Containers that fail.

use crate::support::manifests::busybox_pod;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

#[test]
fn a_crashing_container_backs_off() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.apply(&busybox_pod("oci", "Always", "echo trying; exit 1"));
        cluster.ok(&["run", "wasm", "--image=local/hello-cli:1", "--", "--exit", "4"]);
        for (pod, code) in [("oci", "1"), ("wasm", "4")] {
            let of = |field: &str| format!("{{.status.containerStatuses[0].{field}}}");
            let object = format!("pod/{pod}");
            cluster.until(&object, &of("state.waiting.reason"), "CrashLoopBackOff");
            let message = cluster.field(&object, &of("state.waiting.message")).unwrap();
            // Between two looks it may have been started again.
            if !message.is_empty() {
                assert_has(&message, &["back-off", "restarting failed container="]);
            }
            eventually("CrashLoopBackOff in the table", || {
                has(&cluster.ok(&["get", "pod", pod]), &["CrashLoopBackOff"])
            });
            cluster.event(pod, "BackOff", &["Back-off restarting failed container", pod]);
            eventually("two restarts", || {
                let count = cluster.field(&object, &of("restartCount"))?;
                if count.parse::<u32>().is_ok_and(|count| count >= 2) {
                    Ok(())
                } else {
                    Err(count)
                }
            });
            assert_eq!(
                cluster
                    .field(&object, &of("lastState.terminated.exitCode"))
                    .unwrap(),
                code
            );
            assert_eq!(cluster.field(&object, "{.status.phase}").unwrap(), "Running");
        }
    });
}

#[test]
fn a_policy_says_whether_to_restart() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.apply(&busybox_pod("never", "Never", "exit 5"));
        cluster.apply(&busybox_pod("done", "OnFailure", "exit 0"));
        cluster.apply(&busybox_pod("retry", "OnFailure", "exit 6"));
        assert_eq!(
            (cluster.finished("never"), cluster.exit_code("never")),
            ("Failed".to_owned(), "5".to_owned())
        );
        assert_eq!(cluster.finished("done"), "Succeeded");
        eventually("a restart", || {
            let count = cluster.field("pod/retry", "{.status.containerStatuses[0].restartCount}")?;
            if count.parse::<u32>().is_ok_and(|count| count >= 1) {
                Ok(())
            } else {
                Err(count)
            }
        });
        for (pod, restarts) in [("never", "0"), ("done", "0")] {
            let count = cluster.field(
                &format!("pod/{pod}"),
                "{.status.containerStatuses[0].restartCount}",
            );
            assert_eq!(count.unwrap(), restarts);
        }
    });
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: oci}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: local/busybox:1
    command: [sh, -c, "touch /alive; while :; do sleep 1; done"]
    livenessProbe: {exec: {command: [cat, /alive]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: wasm}
spec:
  containers:
  - name: main
    image: local/hello-http:1
    env: [{name: READY_FILE, value: /state/alive}]
    livenessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1, failureThreshold: 2}
    volumeMounts: [{name: state, mountPath: /state}]
  volumes: [{name: state, emptyDir: {}}]
"#,
        );
        cluster.pod_ready("oci");
        cluster.exec("oci", &["rm", "/alive"]).unwrap();
        for (pod, text) in [
            ("oci", "can't open '/alive'"),
            ("wasm", "HTTP probe failed with statuscode: 503"),
        ] {
            cluster.event(pod, "Unhealthy", &["Liveness probe failed:", text]);
            cluster.event(
                pod,
                "Killing",
                &["Container main failed liveness probe, will be restarted"],
            );
            eventually("a restart", || {
                let count = cluster.field(
                    &format!("pod/{pod}"),
                    "{.status.containerStatuses[0].restartCount}",
                )?;
                if count.parse::<u32>().is_ok_and(|count| count >= 1) {
                    Ok(())
                } else {
                    Err(count)
                }
            });
        }
    });
}
