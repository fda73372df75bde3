//! Wasm containers of one pod that ask each other over HTTP, in memory.

use std::process::Command;

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::said::said;
use crate::support::{Cluster, eventually, sandboxed};

/// Requests whose packets are counted.
const REQUESTS: u64 = 20;

fn pod(name: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
  - name: front
    image: local/hello-http:1
    ports: [{{containerPort: 8080}}]
  - name: back
    image: local/hello-http:1
    ports: [{{containerPort: 8081}}]
    env: [{{name: ROLE, value: back of {name}}}]
    resources: {{limits: {{memory: 16Mi}}}}{more}
"#
    )
}

/// Packets that loopback has carried in a network namespace of the cluster's node.
fn loopback(cluster: &Cluster, namespace: &str) -> u64 {
    let id = std::fs::read_to_string(cluster.dir.join("instance-id")).unwrap();
    let netns = cluster
        .dir
        .join("netns")
        .join(format!("{}-{namespace}", id.trim()));
    let mut cat = Command::new("nsenter");
    cat.arg(format!("--net={}", netns.display()))
        .args(["cat", "/proc/net/dev"]);
    let table = said(cat.output().unwrap()).unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"))
        .expect("loopback");
    line.split_whitespace()
        .nth(1)
        .and_then(|packets| packets.parse().ok())
        .expect("a number")
}

#[test]
fn containers_of_one_pod_ask_each_other_in_memory() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        // One in the network that Wasm pods share, one with an ordinary container and so in a network of its own.
        cluster.apply(&pod("pair", ""));
        let idle = format!("\n  - name: idle\n    image: {BUSYBOX}\n    command: [sh, -c, {IDLE:?}]");
        cluster.apply(&pod("mixed", &idle));
        for name in ["pair", "mixed"] {
            cluster.pod_ready(name);
            let uid = cluster.field(&format!("pod/{name}"), "{.metadata.uid}").unwrap();
            let namespace = if name == "pair" { "shared" } else { &uid };
            let ip = cluster.pod_ip(name);
            let role = format!("back of {name}");
            let before = loopback(&cluster, namespace);
            for turn in 0..REQUESTS {
                let host = ["127.0.0.1", "localhost", &ip][turn as usize % 3];
                let url = format!("http://{host}:8081/env/ROLE");
                assert_eq!(cluster.fetch(&ip, &url).unwrap(), role, "{url}");
            }
            let carried = loopback(&cluster, namespace) - before;
            assert!(carried < REQUESTS, "loopback of {name} carried {carried} packets");
        }

        // To another pod of the shared network they do go by loopback: the counter counts.
        let (ip, mixed) = (cluster.pod_ip("pair"), cluster.pod_ip("mixed"));
        cluster.apply(&pod("other", ""));
        cluster.pod_ready("other");
        let other = cluster.pod_ip("other");
        let before = loopback(&cluster, "shared");
        for _ in 0..REQUESTS {
            let url = format!("http://{other}:8081/env/ROLE");
            assert_eq!(cluster.fetch(&ip, &url).unwrap(), "back of other");
        }
        let carried = loopback(&cluster, "shared") - before;
        assert!(carried > REQUESTS, "loopback carried {carried} packets");
        let url = format!("http://{mixed}:8081/env/ROLE");
        assert_eq!(cluster.fetch(&ip, &url).unwrap(), "back of mixed");

        // Where its guests may connect to is the pod's to say.
        let allowed = "{name: bound, annotations: {coracle.dev/wasm-allowed-hosts: 'http://localhost:8081'}}";
        cluster.apply(&pod("bound", "").replace("{name: bound}", allowed));
        cluster.pod_ready("bound");
        let bound = cluster.pod_ip("bound");
        let role = cluster.fetch(&bound, "http://localhost:8081/env/ROLE");
        assert_eq!(role.unwrap(), "back of bound");
        let denied = cluster.fetch(&bound, &format!("http://{other}:8081/env/ROLE"));
        assert!(denied.is_err(), "{denied:?}");

        // The neighbour dies of what it was asked, is away, and is there again.
        assert!(
            cluster.fetch(&ip, "http://localhost:8082/").is_err(),
            "nobody listens there"
        );
        let deadly = cluster.fetch(&ip, "http://localhost:8081/alloc?mib=64");
        assert!(deadly.is_err(), "{deadly:?}");
        let restarts = "{.status.containerStatuses[?(@.name==\"back\")].restartCount}";
        cluster.until("pod/pair", restarts, "1");
        eventually("the neighbour's return", || {
            let role = cluster.fetch(&ip, "http://localhost:8081/env/ROLE")?;
            if role == "back of pair" { Ok(()) } else { Err(role) }
        });
        let before = loopback(&cluster, "shared");
        for _ in 0..REQUESTS {
            cluster.fetch(&ip, "http://localhost:8081/env/ROLE").unwrap();
        }
        let carried = loopback(&cluster, "shared") - before;
        assert!(
            carried < REQUESTS,
            "loopback carried {carried} packets after a restart"
        );
    });
}
