//! Several clusters on one machine, and the end of one.

use crate::support::cluster::curl;
use crate::support::manifests::{idle_pod, wasm_web};
use crate::support::pod::all_answer;
use crate::support::{Cluster, assert_has, leftovers, sandboxed};

const SECOND: &[&str] = &[
    "--listen",
    "7443",
    "--pod-cidr",
    "10.200.0.0/16",
    "--service-cidr",
    "10.201.0.0/16",
    "--node-name",
    "second",
];

#[test]
fn two_clusters_share_a_machine() {
    sandboxed(|dir| {
        let first = Cluster::stocked(&dir.join("first"), &[]);
        let second = Cluster::stocked(&dir.join("second"), SECOND);
        for cluster in [&first, &second] {
            cluster.apply(&wasm_web("web", 2, false));
            cluster.apply(&idle_pod("box"));
        }
        let mut addresses = Vec::new();
        for cluster in [&first, &second] {
            cluster.deployed("web", 2);
            cluster.pod_ready("box");
            let replicas = cluster.pods("app=web");
            let url = format!("http://{}/", cluster.cluster_ip("web"));
            all_answer("from the host", &replicas, || cluster.curl(&url));
            all_answer("from a pod, by name", &replicas, || {
                cluster.wget("box", "http://web/")
            });
            addresses.push(url);
        }
        assert!(
            addresses[0].contains("//10.43.") && addresses[1].contains("//10.201."),
            "{addresses:?}"
        );
        // The end of one does not touch the other.
        drop(second);
        let replicas = first.pods("app=web");
        all_answer("the first cluster", &replicas, || first.curl(&addresses[0]));
        assert_has(&first.ok(&["get", "pods"]), &["box", "Running"]);
        assert!(curl(&["-k", "https://127.0.0.1:7443/readyz"]).is_err());
    });
}

#[test]
fn down_leaves_nothing_on_the_host() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 2, false));
        cluster.apply(&idle_pod("box"));
        cluster.deployed("web", 2);
        cluster.pod_ready("box");
        assert!(!leftovers::find(dir).is_empty(), "a running node is visible");

        // While it runs, after a crash, and once more when there is nothing to do.
        cluster.down().unwrap();
        leftovers::assert_none(dir);
        cluster.restart();
        cluster.pod_ready("box");
        cluster.kill();
        assert!(
            !leftovers::find(dir).is_empty(),
            "a killed node leaves its containers"
        );
        cluster.down().unwrap();
        leftovers::assert_none(dir);
        cluster.down().unwrap();
        leftovers::assert_none(dir);

        // The objects stay, and run again.
        cluster.restart();
        cluster.deployed("web", 2);
        cluster.pod_ready("box");
    });
}

#[test]
fn a_data_folder_has_one_owner() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let again = std::process::Command::new(crate::support::tools::coracle())
            .args(["up", "--listen", "7443", "--data-dir"])
            .arg(&cluster.dir)
            .output();
        let why = crate::support::said::said(again.unwrap()).unwrap_err();
        assert_has(&why, &["is in use by process", &cluster.pid().to_string()]);
    });
}
