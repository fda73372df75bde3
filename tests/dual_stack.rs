//! Pods, guests and Services with an address of each family, on one node.

use std::net::{IpAddr, SocketAddr};

use crate::support::manifests::{busybox_pod, idle_pod, oci_web, wasm_web};
use crate::support::pod::all_answer;
use crate::support::sandbox::{self, NODE_IP};
use crate::support::udp::{self, Client};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const BOTH: [&str; 4] = [
    "--pod-cidr",
    "10.64.0.0/10,fd00:64::/64",
    "--service-cidr",
    "10.43.0.0/16,fd00:43::/112",
];

/// The node's own address of IPv6.
const NODE_IP6: &str = "fd00:2::10";

#[test]
fn a_service_of_both_families_answers_on_both() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &BOTH);
        let ranges = "{.items[0].spec.podCIDRs[*]}";
        let ranges = cluster.ok(&["get", "nodes", "-o", &format!("jsonpath={ranges}")]);
        assert_eq!(ranges, "10.64.0.0/20 fd00:64::/112");
        for (name, manifest) in [("oci", oci_web("oci", 2)), ("wasm", wasm_web("wasm", 2, false))] {
            let both = "spec:\n  ipFamilyPolicy: RequireDualStack\n  selector: {app:";
            cluster.apply(&manifest.replace("spec:\n  selector: {app:", both));
            cluster.deployed(name, 2);
        }
        cluster.apply(&idle_pod("client"));
        cluster.ok(&["run", "guest", "--image=local/hello-http:1"]);
        cluster.pod_ready("client");
        cluster.pod_ready("guest");
        for service in ["oci", "wasm"] {
            answers_on_both(&cluster, service);
        }
    });
}

fn answers_on_both(cluster: &Cluster, service: &str) {
    let replicas = cluster.pods(&format!("app={service}"));
    let ips = cluster
        .field(&format!("service/{service}"), "{.spec.clusterIPs[*]}")
        .expect("addresses");
    assert_eq!(ips.split(' ').count(), 2, "{ips}");
    let label = format!("kubernetes.io/service-name={service}");
    eventually("slices of both families", || {
        let kinds = "jsonpath={.items[*].addressType}";
        let kinds = cluster.try_ok(&["get", "endpointslices", "-l", &label, "-o", kinds])?;
        let mut kinds: Vec<&str> = kinds.split(' ').collect();
        kinds.sort_unstable();
        match kinds.as_slice() {
            ["IPv4", "IPv6"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let guest = cluster.pod_ip("guest");
    for ip in ips.split(' ') {
        let url = match ip.contains(':') {
            true => format!("http://[{ip}]:80/"),
            false => format!("http://{ip}:80/"),
        };
        all_answer(&format!("{url} from the host"), &replicas, || {
            crate::support::cluster::curl(&["-g", "--max-time", "5", &url])
        });
        all_answer(&format!("{url} from an OCI pod"), &replicas, || {
            cluster.wget("client", &url)
        });
        all_answer(&format!("{url} from a Wasm pod"), &replicas, || {
            cluster.fetch(&guest, &url)
        });
    }
}

#[test]
fn ports_of_the_node_answer_on_both() {
    sandboxed(|dir| {
        sandbox::run(
            "ip",
            &[
                "-6",
                "addr",
                "add",
                &format!("{NODE_IP6}/64"),
                "dev",
                "lan0",
                "nodad",
            ],
        );
        let node = format!("{NODE_IP},{NODE_IP6}");
        let cluster = Cluster::stocked(dir, &[&BOTH[..], &["--node-ip", &node]].concat());
        let port_of = |service: &str| {
            let port = cluster.field(&format!("service/{service}"), "{.spec.ports[0].nodePort}");
            port.expect("a Service").parse::<u16>().expect("a port")
        };
        let at = [NODE_IP, NODE_IP6].map(|ip| ip.parse::<IpAddr>().expect("an address"));
        for (name, manifest) in [("oci", oci_web("oci", 2)), ("wasm", wasm_web("wasm", 2, false))] {
            let both = "spec:\n  type: NodePort\n  ipFamilyPolicy: RequireDualStack\n  selector: {app:";
            cluster.apply(&manifest.replace("spec:\n  selector: {app:", both));
            cluster.deployed(name, 2);
            let (port, replicas) = (port_of(name), cluster.pods(&format!("app={name}")));
            for door in at.map(|ip| SocketAddr::new(ip, port)) {
                let url = format!("http://{door}/");
                all_answer(&url, &replicas, || {
                    crate::support::cluster::curl(&["-g", "--max-time", "5", &url])
                });
            }
        }

        cluster.apply(&udp::echo_service(true));
        let ips = cluster
            .field("service/echo", "{.spec.clusterIPs[*]}")
            .expect("addresses");
        let port = port_of("echo");
        for ip in at {
            cluster.apply(&udp::echo_slice(ip, udp::server(ip, b"heard")));
            let own = ips.split(' ').find(|own| own.contains(':') == ip.is_ipv6());
            let own: IpAddr = own.expect("an address of each").parse().expect("an address");
            for door in [SocketAddr::new(own, 7), SocketAddr::new(ip, port)] {
                Client::new(ip, door).told("heard");
            }
        }
    });
}

#[test]
fn pods_know_their_addresses() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &BOTH);
        let script = "echo $IPS; cat /etc/hosts; ip addr show eth0; ping -6 -c 1 fd00:64::1";
        let env = "\n    env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]\n";
        cluster.apply(&(busybox_pod("told", "Never", script).trim_end().to_owned() + env));
        assert_eq!(cluster.finished("told"), "Succeeded");
        let ips = cluster
            .field("pod/told", "{.status.podIPs[*].ip}")
            .expect("addresses");
        let (four, six) = ips.split_once(' ').expect("two addresses");
        let log = cluster.ok(&["logs", "told"]);
        assert_has(
            &log,
            &[
                &format!("{four},{six}"),
                &format!("{six}\ttold"),
                &format!("{six}/128"),
            ],
        );
        assert_has(&log, &["1 packets received"]);
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    sandboxed(|dir| {
        for (args, words) in [
            (["--pod-cidr", "fd00:64::/64"], "name the IPv4 range first"),
            (
                ["--service-cidr", "10.43.0.0/16,fd00:43::/112"],
                "add a range of IPv6",
            ),
            (
                ["--pod-cidr", "10.64.0.0/10,10.128.0.0/10"],
                "one of IPv4 and one of IPv6",
            ),
        ] {
            let out = std::process::Command::new(crate::support::tools::coracle())
                .args(["up", "--data-dir"])
                .arg(dir.join("data"))
                .args(args)
                .output()
                .expect("coracle");
            assert!(!out.status.success());
            assert_has(&String::from_utf8_lossy(&out.stderr), &[words]);
        }
    });
}
