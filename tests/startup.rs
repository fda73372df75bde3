//! From nothing to a Ready node.

use crate::support::cluster::curl;
use crate::support::{Cluster, eventually, sandboxed};

#[test]
fn a_new_machine_becomes_a_ready_node() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ready();
        assert_eq!(curl(&["-k", "https://127.0.0.1:6443/readyz"]).unwrap(), "ok");
        for file in ["admin.kubeconfig", "server-token", "agent-token"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(cluster.dir.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        eventually("the default account", || cluster.try_ok(&["get", "serviceaccount", "default"]));
        eventually("the root CA", || cluster.try_ok(&["get", "configmap", "kube-root-ca.crt"]));
        let version = curl(&["-k", "https://127.0.0.1:6443/version"]).unwrap();
        assert!(version.contains("v1.36"), "{version}");
    });
}
