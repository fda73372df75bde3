//! Pods, Services and hosts of two nodes reach each other, whatever lies between the nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::hosts::{Host, Hosts, Place};
use crate::support::manifests::{oci_web, wasm_web};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// A file that takes many packets, each as large as there can be.
const BIG_BYTES: usize = 300 * 1024;

#[test]
fn by_routes_on_one_network() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let pair = Pair::start(&hosts, Place::Lan, &["--pod-routing", "routes"], &[]);
        pair.all_reach_all();
        assert_has(&pair.routes(0), &["10.64.16.0/20 via", &pair.hosts[1].ip]);
        assert!(!pair.links(0).contains("vxlan"), "{}", pair.links(0));
        pair.lose_the_second();
    });
}

#[test]
fn by_vxlan_when_one_of_the_two_says_so() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let pair = Pair::start(&hosts, Place::Lan, &[], &["--pod-routing", "vxlan"]);
        pair.all_reach_all();
        for node in 0..2 {
            assert_has(&pair.links(node), &["vxlan", "mtu 1450"]);
        }
        pair.lose_the_second();
    });
}

#[test]
fn by_vxlan_across_a_router() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let pair = Pair::start(&hosts, Place::Far, &[], &[]);
        pair.all_reach_all();
        assert_has(&pair.routes(0), &["10.64.16.0/20 via 10.64.16.0 dev cx"]);
        pair.lose_the_second();
    });
}

#[test]
fn both_families_by_routes() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        // Before the second host there is only the first to be given an address.
        number(&hosts.first(), "2001:db8::10");
        let second = hosts.add("second", Place::Lan);
        number(&second, "2001:db8::11");
        let routes = ["--pod-routing", "routes"];
        let first_args = [&DUAL[..], &routes, &["--node-ip", "192.0.2.10,2001:db8::10"]].concat();
        let node_ip = format!("{},2001:db8::11", second.ip);
        let second_args = [&DUAL[..], &routes, &["--node-ip", &node_ip]].concat();
        let pair = Pair::between(hosts.first(), second, &first_args, &second_args);
        pair.all_reach_all();
        let six = pair.hosts[0].run("ip", &["-6", "route"]).expect("routes");
        assert_has(&six, &["fd00:64::1:0/112 via 2001:db8::11 dev lan0"]);
        pair.lose_the_second();
    });
}

#[test]
fn both_families_by_vxlan() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let pair = Pair::start(&hosts, Place::Far, &DUAL, &DUAL);
        pair.all_reach_all();
        let six = pair.hosts[0].run("ip", &["-6", "route"]).expect("routes");
        assert_has(&six, &["fd00:64::1:0/112 via fd00:64::1:0 dev cx"]);
        pair.lose_the_second();
    });
}

/// Both nodes' ranges of both families.
const DUAL: [&str; 4] = [
    "--pod-cidr",
    "10.64.0.0/10,fd00:64::/64",
    "--service-cidr",
    "10.43.0.0/16,fd00:43::/112",
];

/// Gives a host an address of IPv6.
fn number(host: &Host, address: &str) {
    let address = format!("{address}/64");
    host.run("ip", &["addr", "add", &address, "dev", "lan0", "nodad"])
        .expect("an address");
}

fn url(ip: &str, port: &str) -> String {
    match ip.contains(':') {
        true => format!("http://[{ip}]:{port}/"),
        false => format!("http://{ip}:{port}/"),
    }
}

/// Two nodes, each with an OCI and a Wasm server that are clients as well.
struct Pair {
    first: Cluster,
    second: Cluster,
    hosts: [Arc<Host>; 2],
    /// How many addresses a pod has.
    families: usize,
}

/// A server of one sort on one node.
struct Web {
    name: String,
    is_wasm: bool,
    pod_ip: String,
    /// Where it answers.
    urls: Vec<String>,
}

impl Pair {
    /// Starts both with what each is told, and the servers on them.
    fn start(hosts: &Hosts, place: Place, first_args: &[&str], second_args: &[&str]) -> Self {
        Self::between(hosts.first(), hosts.add("second", place), first_args, second_args)
    }

    fn between(here: Arc<Host>, there: Arc<Host>, first_args: &[&str], second_args: &[&str]) -> Self {
        let mut args = vec!["--node-name", "first"];
        args.extend(first_args);
        let first = Cluster::start_on(&here, "up", &args);
        let url = format!("https://{}:6443", here.ip);
        let token = first.dir.join("agent-token");
        let token = token.to_str().expect("a path of text");
        let mut args = vec!["--server", &url, "--token-file", token];
        args.extend(second_args);
        let second = Cluster::start_on(&there, "agent", &args);
        for node in [&first, &second] {
            node.busybox();
            node.guests();
        }
        first.ready();
        for node in ["first", "second"] {
            for (sort, manifest) in [("oci", oci_web as fn(&str, u32) -> String), ("wasm", wasm)] {
                let manifest = manifest(&format!("{sort}-{node}"), 1);
                first.apply(&on_node(&manifest, node));
            }
        }
        Pair {
            first,
            second,
            hosts: [here, there],
            families: if first_args.contains(&DUAL[1]) { 2 } else { 1 },
        }
    }

    /// Every client asks every server at every address that it has.
    fn all_reach_all(&self) {
        let webs = self.webs();
        for server in &webs {
            for url in &server.urls {
                for host in &self.hosts {
                    answered(&host.name, server, url, || {
                        host.run("curl", &["-gsS", "-f", "--max-time", "5", url])
                    });
                }
                for client in &webs {
                    answered(&client.name, server, url, || match client.is_wasm {
                        true => self.first.fetch(&client.pod_ip, url),
                        false => self.first.wget(&format!("deployment/{}", client.name), url),
                    });
                }
            }
        }
        self.sources_are_kept(&webs);
        self.large_packets_pass(&webs);
    }

    fn webs(&self) -> Vec<Web> {
        let names = ["oci-first", "oci-second", "wasm-first", "wasm-second"];
        let field = |object: &str, path: &str| self.first.field(object, path).expect("a field");
        let web = |name: &&str| {
            self.first.deployed(name, 1);
            let pods = self.first.pods(&format!("app={name}"));
            let pod = pods.first().expect("a pod");
            let pod_ip = self.first.pod_ip(pod);
            let service = format!("service/{name}");
            let pod_ips = field(&format!("pod/{pod}"), "{.status.podIPs[*].ip}");
            let cluster_ips = field(&service, "{.spec.clusterIPs[*]}");
            let count = |ips: &str| ips.split(' ').count();
            assert_eq!(count(&pod_ips), self.families, "{name}: {pod_ips}");
            assert_eq!(count(&cluster_ips), self.families, "{name}: {cluster_ips}");
            let port = field(&service, "{.spec.ports[0].nodePort}");
            let mut urls: Vec<String> = pod_ips.split(' ').map(|ip| url(ip, "8080")).collect();
            urls.extend(cluster_ips.split(' ').map(|ip| url(ip, "80")));
            urls.extend(self.hosts.iter().map(|host| url(&host.ip, &port)));
            Web {
                name: (*name).to_owned(),
                is_wasm: name.starts_with("wasm"),
                pod_ip,
                urls,
            }
        };
        names.iter().map(web).collect()
    }

    /// Servers see who asks: pods of another node by their own addresses.
    fn sources_are_kept(&self, webs: &[Web]) {
        let ips: BTreeMap<&str, &str> = webs
            .iter()
            .map(|web| (web.name.as_str(), web.pod_ip.as_str()))
            .collect();
        for (server, clients) in [
            ("oci-second", ["oci-first", "wasm-first"]),
            ("oci-first", ["oci-second", "wasm-second"]),
        ] {
            let log = self.first.ok(&["logs", &format!("deployment/{server}")]);
            for client in clients {
                assert!(log.contains(ips[client]), "{server} never saw {client}:\n{log}");
            }
        }
    }

    fn large_packets_pass(&self, webs: &[Web]) {
        for (client, server) in [("oci-first", "oci-second"), ("oci-second", "oci-first")] {
            let ip = &webs
                .iter()
                .find(|web| web.name == server)
                .expect("a server")
                .pod_ip;
            let script = format!("timeout 10 wget -q -O - http://{ip}:8080/big | wc -c");
            let count = eventually("a large file", || {
                self.first
                    .exec(&format!("deployment/{client}"), &["sh", "-c", &script])
            });
            assert_eq!(count.trim(), BIG_BYTES.to_string(), "{client} from {server}");
        }
    }

    /// What leads to a node that is no more goes, and in the end all the rest.
    fn lose_the_second(mut self) {
        self.second.stop();
        self.first.ok(&["delete", "node", "second"]);
        eventually("no way to a node that is gone", || {
            let routes = self.routes(0);
            match routes.contains("10.64.16.0/20") {
                true => Err(routes),
                false => Ok(()),
            }
        });
        assert_has(&self.routes(1), &["10.64.0.0/20 via"]);
        self.second.down().expect("the second is taken down");
        self.first.stop();
        self.first.down().expect("the first is taken down");
        for (node, host) in self.hosts.iter().enumerate() {
            let left = self.routes(node);
            assert!(!left.contains("10.64."), "{}: {left}", host.name);
            assert!(!self.links(node).contains(": c"), "{}", self.links(node));
            host.assert_clean();
        }
    }

    fn routes(&self, node: usize) -> String {
        self.hosts[node].run("ip", &["route"]).expect("routes")
    }

    fn links(&self, node: usize) -> String {
        self.hosts[node].run("ip", &["-d", "link"]).expect("links")
    }
}

fn answered(client: &str, server: &Web, url: &str, mut ask: impl FnMut() -> Result<String, String>) {
    let what = format!("{client} asks {} at {url}", server.name);
    let said = eventually(&what, &mut ask);
    assert!(said.contains(&server.name), "{what}: {said}");
}

fn wasm(name: &str, replicas: u32) -> String {
    wasm_web(name, replicas, false)
}

/// The Deployment and its Service on that node, with a port on all nodes, a
/// log of who asks, and a large file.
fn on_node(manifest: &str, node: &str) -> String {
    let pinned =
        format!("    spec:\n      nodeSelector: {{kubernetes.io/hostname: {node}}}\n      containers:");
    let kib = BIG_BYTES / 1024;
    manifest
        .replace("    spec:\n      containers:", &pinned)
        .replace(
            "spec:\n  selector: {app:",
            "spec:\n  type: NodePort\n  ipFamilyPolicy: PreferDualStack\n  selector: {app:",
        )
        .replace(
            "exec httpd -f",
            &format!("dd if=/dev/zero of=/www/big bs=1024 count={kib} && exec httpd -f -vv"),
        )
}
