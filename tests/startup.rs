//! From nothing to a Ready node.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::cluster::curl;
use crate::support::said::said;
use crate::support::sandbox::NODE_IP;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed, tools};

#[test]
fn a_new_machine_becomes_a_ready_node() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ready();
        for file in ["admin.kubeconfig", "server-token", "agent-token"] {
            let mode = std::fs::metadata(cluster.dir.join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let tokens = ["server-token", "agent-token"]
            .map(|file| std::fs::read_to_string(cluster.dir.join(file)).unwrap());
        assert_ne!(tokens[0], tokens[1]);
        let wide = cluster.ok(&["get", "nodes", "-o", "wide"]);
        assert_has(&wide, &["Ready", NODE_IP, "v1.36"]);
        eventually("the default account", || {
            cluster.try_ok(&["get", "serviceaccount", "default"])
        });
        eventually("the root CA", || {
            cluster.try_ok(&["get", "configmap", "kube-root-ca.crt"])
        });
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            cluster.until(&format!("namespace/{namespace}"), "{.status.phase}", "Active");
        }
        // The API's own Service leads to the node's address.
        assert_eq!(cluster.cluster_ip("kubernetes"), "10.43.0.1");
        let slice = cluster.ok(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=kubernetes",
        ]);
        assert_has(&slice, &["6443", NODE_IP]);
        eventually("the API at its Service", || {
            has(&curl(&["-k", "https://10.43.0.1/readyz"])?, &["ok"])
        });
    });
}

#[test]
fn health_version_and_metrics_can_be_read() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &["--tls-san", "api.example.com,192.0.2.200"]);
        for path in ["healthz", "livez", "readyz"] {
            assert_eq!(
                curl(&["-k", &format!("https://127.0.0.1:6443/{path}")]).unwrap(),
                "ok"
            );
            assert_eq!(
                curl(&["-k", &format!("https://{NODE_IP}:6443/{path}")]).unwrap(),
                "ok"
            );
        }
        let version = curl(&["-k", "https://127.0.0.1:6443/version"]).unwrap();
        assert_has(&version, &["\"gitVersion\"", "v1.36"]);
        assert_has(&cluster.ok(&["get", "--raw", "/metrics"]), &["# TYPE"]);
        // The certificate is signed by the CA that the kubeconfig carries.
        assert_eq!(cluster.ok(&["get", "--raw", "/readyz"]), "ok");
        // It is good for the names that it was told, and for no others.
        let by_name = ["get", "--raw", "/readyz", "--tls-server-name"];
        assert_eq!(cluster.ok(&[&by_name[..], &["api.example.com"]].concat()), "ok");
        let refused = cluster.refused(&[&by_name[..], &["api.example.org"]].concat());
        assert_has(&refused, &["certificate is valid for", "api.example.com"]);
    });
}

#[test]
fn settings_come_from_flags_and_from_a_file() {
    sandboxed(|dir| {
        let file = dir.join("coracle.yaml");
        std::fs::write(
            &file,
            "listen: 7443\nnode-name: from-file\nservice-cidr: 10.143.0.0/16\n",
        )
        .unwrap();
        let config = file.to_str().unwrap();
        let cluster = Cluster::start(dir, &["--config", config, "--node-name", "from-flag"]);
        cluster.ready();
        assert_has(&cluster.ok(&["get", "nodes"]), &["from-flag"]);
        assert_eq!(cluster.cluster_ip("kubernetes"), "10.143.0.1");
        assert_has(&cluster.ok(&["config", "view"]), &[":7443"]);

        std::fs::write(&file, "pod-cdir: 10.64.0.0/16\n").unwrap();
        let wrong = Command::new(tools::coracle())
            .args(["up", "--config", config, "--data-dir"])
            .arg(dir.join("no"))
            .output();
        assert_has(&said(wrong.unwrap()).unwrap_err(), &["pod-cdir", config]);
    });
}

#[test]
fn the_program_explains_itself() {
    let run = |args: &[&str]| said(Command::new(tools::coracle()).args(args).output().unwrap());
    assert_has(
        &run(&["--help"]).unwrap(),
        &["up", "server", "agent", "image", "down", "version", "Examples:"],
    );
    assert_has(
        &run(&["up", "--help"]).unwrap(),
        &["--data-dir", "--pod-cidr", "10.64.0.0/10", "Examples:"],
    );
    assert_has(&run(&["version"]).unwrap(), &["coracle", "v1.36"]);
    assert_has(
        &run(&["up", "--pod-cidr", "10.64.0.1/10"]).unwrap_err(),
        &["10.64.0.0/10"],
    );
}

#[test]
fn a_reader_who_goes_ends_the_program_in_silence() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut version = Command::new(tools::coracle());
    let ended = version.arg("version").stdout(writer).output().unwrap();
    assert_eq!(
        ended.status.signal(),
        Some(nix::sys::signal::Signal::SIGPIPE as i32)
    );
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
