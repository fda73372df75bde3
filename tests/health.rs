//! Probes by gRPC's health protocol, of a server that speaks it.

use std::path::Path;

use crate::support::manifests::BUSYBOX;
use crate::support::{Cluster, eventually, sandboxed, tools};

/// Has the server say that of a service from now on; it reads whole files only.
fn say(folder: &Path, service: &str, status: &str) {
    let new = folder.join(format!(".{service}"));
    std::fs::write(&new, status).unwrap();
    std::fs::rename(new, folder.join(service)).unwrap();
}

/// A pod that runs the server, asked as a whole whether it lives and about `shop` whether it is ready.
fn pod(name: &str, folder: &Path) -> String {
    let program = tools::example("health");
    let programs = program.parent().expect("a folder").display();
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {BUSYBOX}
    command: [/programs/health, /told, "5000"]
    readinessProbe: {{grpc: {{port: 5000, service: shop}}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}
    livenessProbe: {{grpc: {{port: 5000}}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 3}}
    volumeMounts:
    - {{name: told, mountPath: /told}}
    - {{name: programs, mountPath: /programs, readOnly: true}}
    - {{name: lib, mountPath: /lib, readOnly: true}}
    - {{name: lib64, mountPath: /lib64, readOnly: true}}
  volumes:
  - {{name: told, hostPath: {{path: {folder}}}}}
  - {{name: programs, hostPath: {{path: {programs}}}}}
  - {{name: lib, hostPath: {{path: /lib}}}}
  - {{name: lib64, hostPath: {{path: /lib64}}}}
"#,
        folder = folder.display()
    )
}

#[test]
fn services_that_say_how_they_are_decide_what_becomes_of_their_pod() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        let folder = dir.join("told");
        std::fs::create_dir_all(&folder).unwrap();
        say(&folder, "overall", "SERVING");
        say(&folder, "shop", "SERVING");
        cluster.apply(&pod("shop", &folder));
        cluster.pod_ready("shop");

        let ready = "{.status.conditions[?(@.type==\"Ready\")].status}";
        let restarts = || cluster.field("pod/shop", "{.status.containerStatuses[0].restartCount}");
        // It is of no use and lives: nobody is led there, and nobody ends it.
        say(&folder, "shop", "NOT_SERVING");
        cluster.until("pod/shop", ready, "False");
        let unhealthy = "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
        cluster.event("shop", "Unhealthy", &[unhealthy]);
        say(&folder, "shop", "SERVING");
        cluster.pod_ready("shop");

        // A service that the server knows nothing of.
        std::fs::remove_file(folder.join("shop")).unwrap();
        cluster.until("pod/shop", ready, "False");
        let unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
        cluster.event("shop", "Unhealthy", &[unknown]);
        say(&folder, "shop", "SERVING");
        cluster.pod_ready("shop");
        assert_eq!(restarts().unwrap(), "0");

        say(&folder, "overall", "NOT_SERVING");
        let ended = "Container main failed liveness probe, will be restarted";
        cluster.event("shop", "Killing", &[ended]);
        eventually("a restart", || match restarts()?.as_str() {
            "0" => Err("none yet".to_owned()),
            _ => Ok(()),
        });
        say(&folder, "overall", "SERVING");
        cluster.pod_ready("shop");
    });
}
