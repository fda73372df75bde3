//! Services balanced by the node's own process, as on kernels without nftables.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::manifests::{idle_pod, oci_web, wasm_web};
use crate::support::pod::{all_answer, asked_from_everywhere};
use crate::support::sandbox::NODE_IP;
use crate::support::udp::{self, Client};
use crate::support::{Cluster, eventually, has, sandboxed};

/// A node whose kernel has no Services, with a client of each sort: the Wasm one's address.
fn without_the_kernel(dir: &std::path::Path) -> (Cluster, String) {
    let cluster = Cluster::stocked(dir, &["--service-proxy", "userspace"]);
    cluster.apply(&idle_pod("oci-client"));
    let guest = cluster.wasm_client();
    cluster.pod_ready("oci-client");
    (cluster, guest)
}

/// The names of the kernel's tables that are not about pods' addresses.
fn service_tables() -> Vec<String> {
    let out = Command::new("nft").args(["list", "tables"]).output();
    let said = String::from_utf8(out.expect("nft").stdout).expect("text");
    let tables = said.lines().filter(|line| !line.ends_with("-pods"));
    tables.map(str::to_owned).collect()
}

#[test]
fn deployments_answer_through_this_process() {
    sandboxed(|dir| {
        let (mut cluster, guest) = without_the_kernel(dir);
        cluster.apply(&oci_web("oci", 3));
        cluster.apply(&wasm_web("wasm", 3, false));
        for service in ["oci", "wasm"] {
            cluster.deployed(service, 3);
            asked_from_everywhere(&cluster, service, "oci-client", &guest);
        }
        assert_eq!(service_tables(), [""; 0]);

        // A port of the node, and nobody behind it.
        cluster.ok(&["patch", "service", "oci", "-p", r#"{"spec":{"type":"NodePort"}}"#]);
        let port = cluster
            .field("service/oci", "{.spec.ports[0].nodePort}")
            .expect("a port");
        let (url, replicas) = (format!("http://{NODE_IP}:{port}/"), cluster.pods("app=oci"));
        all_answer("the node's port", &replicas, || cluster.curl(&url));
        cluster.ok(&["scale", "deployment", "oci", "--replicas=0"]);
        for url in [url, format!("http://{}/", cluster.cluster_ip("oci"))] {
            eventually("a refusal", || {
                has(&cluster.curl(&url).err().unwrap_or_default(), &["curl: (7)"])
            });
        }

        // The sockets go with the process and come back with it.
        cluster.kill();
        cluster.restart();
        let (url, replicas) = (
            format!("http://{}/", cluster.cluster_ip("wasm")),
            cluster.pods("app=wasm"),
        );
        all_answer("after a restart", &replicas, || cluster.curl(&url));
    });
}

#[test]
fn clients_stay_and_datagrams_arrive() {
    sandboxed(|dir| {
        let (cluster, _) = without_the_kernel(dir);
        cluster.apply(&oci_web("web", 3));
        cluster.deployed("web", 3);
        cluster.ok(&[
            "patch",
            "service",
            "web",
            "-p",
            r#"{"spec":{"sessionAffinity":"ClientIP"}}"#,
        ]);
        let url = format!("http://{}/", cluster.cluster_ip("web"));
        eventually("one pod for one client", || {
            let first = cluster.curl(&url)?;
            let others: Result<Vec<String>, String> = (0..20).map(|_| cluster.curl(&url)).collect();
            match others?.into_iter().find(|other| *other != first) {
                None => Ok(()),
                Some(other) => Err(format!("{first} and {other}")),
            }
        });

        let node = NODE_IP.parse().expect("an address");
        cluster.apply(&udp::echo_service(false));
        cluster.apply(&udp::echo_slice(node, udp::server(node, b"first")));
        let port = cluster
            .field("service/echo", "{.spec.ports[0].nodePort}")
            .expect("a port");
        let doors = [
            format!("{}:7", cluster.cluster_ip("echo")),
            format!("{NODE_IP}:{port}"),
        ];
        let clients = doors.map(|door| Client::new(node, door.parse::<SocketAddr>().expect("an address")));
        clients.iter().for_each(|client| client.told("first"));
        // New clients go where the Service leads now.
        cluster.apply(&udp::echo_slice(node, udp::server(node, b"second")));
        eventually("the second server", || {
            let door = format!("{}:7", cluster.cluster_ip("echo"))
                .parse()
                .expect("an address");
            Client::new(node, door)
                .ask()
                .and_then(|said| has(&said, &["second"]))
        });
    });
}
