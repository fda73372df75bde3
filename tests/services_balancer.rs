//! Services of type LoadBalancer: addresses from a pool, announced on the network.

use std::sync::Arc;

use crate::support::hosts::{Host, Hosts, Place};
use crate::support::manifests::{oci_web, wasm_web};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const POOL: &str = "192.0.2.200-192.0.2.201";

/// A Service of type LoadBalancer for the pods with label `app: web`.
fn balancer(name: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
{more}"#
    )
}

fn ingress(cluster: &Cluster, service: &str) -> String {
    cluster
        .field(
            &format!("service/{service}"),
            "{.status.loadBalancer.ingress[*].ip}",
        )
        .unwrap()
}

/// Waits for a Service's address.
fn given(cluster: &Cluster, service: &str) -> String {
    eventually(&format!("an address for {service}"), || {
        match ingress(cluster, service) {
            ip if ip.is_empty() => Err("none yet".to_owned()),
            ip => Ok(ip),
        }
    })
}

fn ask(from: &Arc<Host>, ip: &str) -> Result<String, String> {
    from.run(
        "curl",
        &["-sS", "-f", "--max-time", "2", &format!("http://{ip}/")],
    )
}

#[test]
fn addresses_come_from_the_pool_and_go_back() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--load-balancer-pool", POOL]);
        cluster.apply(&balancer("one", ""));
        assert_eq!(given(&cluster, "one"), "192.0.2.200");
        let mode = "{.status.loadBalancer.ingress[0].ipMode}";
        assert_eq!(cluster.field("service/one", mode).unwrap(), "VIP");
        cluster.event("one", "EnsuredLoadBalancer", &["Ensured load balancer"]);
        cluster.apply(&balancer("two", "  loadBalancerIP: 192.0.2.201"));
        assert_eq!(given(&cluster, "two"), "192.0.2.201");
        cluster.apply(&balancer("three", ""));
        cluster.event(
            "three",
            "SyncLoadBalancerFailed",
            &["no address is left in the pools"],
        );
        assert_eq!(ingress(&cluster, "three"), "");
        assert_has(&cluster.ok(&["get", "service", "three"]), &["<pending>"]);
        // Another's class is not ours to serve, whatever is free.
        cluster.apply(&balancer("foreign", "  loadBalancerClass: example.com/other"));
        cluster.ok(&["delete", "service", "one"]);
        assert_eq!(given(&cluster, "three"), "192.0.2.200");
        // Another type gives it back.
        let patch = r#"{"spec":{"type":"ClusterIP","loadBalancerIP":null}}"#;
        cluster.ok(&["patch", "service", "two", "-p", patch]);
        eventually("the status is cleared", || match ingress(&cluster, "two") {
            ip if ip.is_empty() => Ok(()),
            ip => Err(ip),
        });
        cluster.apply(&balancer("four", "  loadBalancerIP: 192.0.2.9"));
        cluster.event(
            "four",
            "SyncLoadBalancerFailed",
            &["192.0.2.9 is not in a pool of addresses"],
        );
        assert_eq!(ingress(&cluster, "foreign"), "");
    });
}

#[test]
fn another_machine_on_the_network_reaches_the_address() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let lan = hosts.add("neighbour", Place::Lan);
        let cluster = Cluster::start_on(&hosts.first(), "up", &["--load-balancer-pool", POOL]);
        cluster.busybox();
        cluster.guests();
        cluster.ready();
        cluster.apply(&oci_web("web", 1));
        cluster.deployed("web", 1);
        cluster.apply(&balancer("front", ""));
        let ip = given(&cluster, "front");
        eventually("an answer on the network", || {
            has(&ask(&lan, &ip)?, &["hello from web"])
        });
        // Only the clients that are named get in.
        let only = |range: &str| {
            let patch = format!(r#"{{"spec":{{"loadBalancerSourceRanges":["{range}"]}}}}"#);
            cluster.ok(&["patch", "service", "front", "-p", &patch]);
        };
        only("198.51.100.0/24");
        eventually("nobody gets in", || match ask(&lan, &ip) {
            Err(_) => Ok(()),
            Ok(said) => Err(said),
        });
        only("192.0.2.0/24");
        eventually("the neighbour gets in", || ask(&lan, &ip));
        // Nobody is ready: told at once (7), not after a while (28).
        cluster.ok(&["scale", "deployment", "web", "--replicas=0"]);
        eventually("a refusal", || match ask(&lan, &ip) {
            Err(why) => has(&why, &["curl: (7)"]),
            Ok(said) => Err(said),
        });
    });
}

#[test]
fn the_address_moves_with_the_node_that_announces_it() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let (lan, there) = (
            hosts.add("neighbour", Place::Lan),
            hosts.add("second", Place::Lan),
        );
        let here = hosts.first();
        let args = ["--node-name", "first", "--load-balancer-pool", POOL];
        let first = Cluster::start_on(&here, "up", &args);
        let url = format!("https://{}:6443", here.ip);
        let token = first.dir.join("agent-token");
        let token = token.to_str().expect("a path of text");
        let second = Cluster::start_on(&there, "agent", &["--server", &url, "--token-file", token]);
        for node in [&first, &second] {
            node.busybox();
            node.guests();
        }
        first.until(
            "node/second",
            "{.status.conditions[?(@.type==\"Ready\")].status}",
            "True",
        );
        first.apply(&wasm_web("web", 1, false));
        first.deployed("web", 1);
        first.apply(&balancer("front", "  externalTrafficPolicy: Local"));
        let ip = given(&first, "front");
        // With the policy Local only the node with the pod may have it.
        let on = |node: &str| {
            let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeName":"{node}"}}}}}}}}"#);
            first.ok(&["patch", "deployment", "web", "-p", &patch]);
            first.deployed("web", 1);
            eventually(&format!("an answer by {node}"), || {
                has(&ask(&lan, &ip)?, &["hello from web"])?;
                let cache = lan.run("ip", &["neigh", "show", &ip])?;
                let host = if node == "first" { &here } else { &there };
                let link = host.run("ip", &["-o", "link", "show", "lan0"])?;
                let (_, mac) = link.split_once("link/ether ").ok_or("no hardware address")?;
                has(&cache, &[mac.split(' ').next().unwrap_or(mac)])
            });
        };
        on("first");
        on("second");
        on("first");
    });
}
