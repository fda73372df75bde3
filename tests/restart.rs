//! The node's process dies and comes back.

use std::time::{Duration, Instant};

use crate::support::manifests::{idle_pod, oci_web, wasm_web};
use crate::support::pod::all_answer;
use crate::support::{Cluster, eventually, sandboxed};

/// What must not change for an OCI container that went on running.
fn identity(cluster: &Cluster, pod: &str) -> String {
    let status = ".status.containerStatuses[0]";
    let path = format!(
        "{{{status}.containerID}} {{{status}.state.running.startedAt}} {{{status}.restartCount}} {{.status.podIP}}"
    );
    cluster.field(&format!("pod/{pod}"), &path).unwrap()
}

#[test]
fn everything_is_there_after_kill_9() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("wasm", 3, false));
        cluster.apply(&oci_web("oci", 2));
        cluster.apply(&idle_pod("box"));
        cluster.deployed("wasm", 3);
        cluster.deployed("oci", 2);
        cluster.pod_ready("box");
        cluster.exec("box", &["sh", "-c", "echo mine > /note"]).unwrap();
        let oci_pods = cluster.pods("app in (oci,box)");
        let before: Vec<String> = oci_pods.iter().map(|pod| identity(&cluster, pod)).collect();
        let wasm_pods = cluster.pods("app=wasm");
        let (wasm_url, oci_url) = (
            format!("http://{}/", cluster.cluster_ip("wasm")),
            format!("http://{}/", cluster.cluster_ip("oci")),
        );
        // Acknowledged one after the other until the very end.
        for n in 0..20 {
            cluster.ok(&[
                "create",
                "configmap",
                &format!("written-{n}"),
                &format!("--from-literal=n={n}"),
            ]);
        }

        cluster.kill();
        // OCI pods go on without us, their Service with them.
        all_answer(
            "OCI replicas without the node's process",
            &cluster_pods(&oci_pods, "oci"),
            || cluster.curl(&oci_url),
        );
        let began = Instant::now();
        cluster.restart();
        let ready = began.elapsed();
        eventually("the Wasm Service", || cluster.curl(&wasm_url));
        let answered = began.elapsed();
        eprintln!("ready {ready:?} after the start, Wasm answered after {answered:?}");
        assert!(
            answered - ready < Duration::from_secs(5),
            "Wasm pods answered only after {answered:?}"
        );

        for n in 0..20 {
            assert_eq!(
                cluster
                    .field(&format!("configmap/written-{n}"), "{.data.n}")
                    .unwrap(),
                n.to_string()
            );
        }
        all_answer("the Wasm replicas", &wasm_pods, || cluster.curl(&wasm_url));
        all_answer("the OCI replicas", &cluster_pods(&oci_pods, "oci"), || {
            cluster.curl(&oci_url)
        });
        cluster.deployed("wasm", 3);
        cluster.deployed("oci", 2);
        assert_eq!(cluster.exec("box", &["cat", "/note"]).unwrap(), "mine\n");
        let after: Vec<String> = oci_pods.iter().map(|pod| identity(&cluster, pod)).collect();
        assert_eq!(before, after, "OCI containers were restarted");
        assert_eq!(cluster.pods("app=wasm"), wasm_pods);
        // And it is a full cluster again.
        cluster.ok(&["scale", "deployment", "wasm", "--replicas=4"]);
        cluster.deployed("wasm", 4);
        cluster.ok(&["delete", "pod", "box"]);
    });
}

fn cluster_pods(pods: &std::collections::BTreeSet<String>, app: &str) -> std::collections::BTreeSet<String> {
    pods.iter()
        .filter(|pod| pod.starts_with(&format!("{app}-")))
        .cloned()
        .collect()
}

#[test]
fn a_container_that_ended_meanwhile_is_noticed() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&crate::support::manifests::busybox_pod(
            "brief",
            "Never",
            "while [ ! -e /tmp/stop ]; do sleep 0.2; done; echo ending; exit 9",
        ));
        cluster.pod_ready("brief");
        // Ends itself a moment after the node's process is gone.
        cluster
            .exec(
                "brief",
                &["sh", "-c", "(sleep 2; touch /tmp/stop) >/dev/null 2>&1 &"],
            )
            .unwrap();
        cluster.kill();
        std::thread::sleep(Duration::from_secs(4));
        cluster.restart();
        assert_eq!(cluster.finished("brief"), "Failed");
        assert_eq!(cluster.exit_code("brief"), "9");
        assert_eq!(cluster.ok(&["logs", "brief"]), "ending\n");
    });
}

#[test]
fn an_orderly_stop_and_start_keeps_the_cluster() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("box"));
        cluster.ok(&["run", "wasm", "--image=local/hello-http:1"]);
        cluster.pod_ready("box");
        cluster.pod_ready("wasm");
        let ip = cluster.pod_ip("wasm");
        let before = identity(&cluster, "box");
        cluster.stop();
        cluster.restart();
        cluster.ready();
        eventually("the Wasm pod", || cluster.curl(&format!("http://{ip}:8080/")));
        assert_eq!(
            identity(&cluster, "box"),
            before,
            "a stop of the node's process ends no containers"
        );
    });
}
