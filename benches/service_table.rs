//! A node's table of thousands of Services: loading it, and changing one
//! endpoint, beside the layout of kube-proxy's nftables mode loaded by `nft`.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base::Tasks;
use client::Cache;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::{Catalog, NetworkConfig, PodRouting, ServiceProxy, Services};
use serde_json::json;

use kit::process;
use kit::table::{self, ms, quantile};

const ENDPOINTS: u32 = 10;
/// What a node that follows the change works on: one Service of many, another each time.
const STRIDE: u32 = 7919;

/// Wall and processor time of one piece of work.
type Cost = (Duration, Duration);

/// What was measured of one layout.
struct Row {
    load: Cost,
    changes: Vec<Cost>,
}

/// Prints the table.
pub async fn measure(scratch: &Path, services: u32, changes: u32) -> anyhow::Result<()> {
    let ours = ours(scratch, services, changes).await?;
    let peer = kube_proxy(services, changes)?;
    let row = |name: &str, row: &Row| {
        let mut walls: Vec<f64> = row.changes.iter().map(|(wall, _)| ms(*wall)).collect();
        let cpu: Duration = row.changes.iter().map(|(_, cpu)| *cpu).sum();
        vec![
            name.to_owned(),
            format!("{:.0} ms", ms(row.load.0)),
            format!("{:.0} ms", ms(row.load.1)),
            format!("{:.2} ms", quantile(&mut walls, 0.5)),
            format!("{:.2} ms", quantile(&mut walls, 0.99)),
            format!("{:.2} ms", ms(cpu) / row.changes.len().max(1) as f64),
        ]
    };
    table::print(
        &format!("{services} Services with {ENDPOINTS} endpoints each, one of which changes {changes} times"),
        &[
            "layout",
            "load, wall",
            "load, CPU",
            "change, median",
            "change, p99",
            "change, CPU",
        ],
        &[row("coracle", &ours), row("kube-proxy's, by `nft -f`", &peer)],
    );
    Ok(())
}

fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a2b_0100 + service)
}

fn endpoint_ip(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + service * ENDPOINTS + endpoint)
}

/// Which Service changes, and what port its last endpoint has from then on.
fn nth_change(change: u32, services: u32) -> (u32, u16) {
    (change * STRIDE % services, 9000 + (change / services) as u16)
}

fn timed<R>(began: (Instant, Duration), result: R) -> (R, Cost) {
    (result, (began.0.elapsed(), process::own_cpu() - began.1))
}

fn now() -> (Instant, Duration) {
    (Instant::now(), process::own_cpu())
}

// ---- ours: from the objects in the caches to the kernel ----

fn service(n: u32) -> anyhow::Result<Service> {
    let ip = cluster_ip(n).to_string();
    Ok(serde_json::from_value(json!({
        "metadata": {"namespace": "x", "name": format!("s{n}")},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]},
    }))?)
}

/// Two slices: the last endpoint, with this port, and the others, with 8080.
fn slices(n: u32, port: u16) -> anyhow::Result<[EndpointSlice; 2]> {
    let slice = |suffix: &str, endpoints: std::ops::Range<u32>, port: u16| {
        let ready = json!({"ready": true, "serving": true, "terminating": false});
        let endpoint = |e| json!({"addresses": [endpoint_ip(n, e).to_string()], "conditions": ready});
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"namespace": "x", "name": format!("s{n}-{suffix}"),
                         "labels": {"kubernetes.io/service-name": format!("s{n}")}},
            "endpoints": endpoints.map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        }))
    };
    Ok([
        slice("a", 0..ENDPOINTS - 1, 8080)?,
        slice("b", ENDPOINTS - 1..ENDPOINTS, port)?,
    ])
}

fn config(scratch: &Path) -> anyhow::Result<NetworkConfig> {
    Ok(NetworkConfig {
        instance_id: "0a1b2c3d".into(),
        data_dir: scratch.to_path_buf(),
        pod_cidr: "10.64.0.0/10".parse()?,
        node_cidr: "10.64.0.0/20".parse()?,
        service_cidr: "10.43.0.0/16".parse()?,
        node_name: "here".into(),
        node_ip: kit::sandbox::NODE_IP.parse()?,
        node_ip6: None,
        routing: PodRouting::Auto,
        proxy: ServiceProxy::Kernel,
        dns_ip: [10, 43, 0, 10].into(),
        domain: "cluster.local".into(),
        resolv_conf: scratch.join("resolv.conf"),
    })
}

async fn ours(scratch: &Path, services: u32, changes: u32) -> anyhow::Result<Row> {
    let tasks = Tasks::new();
    let known: Vec<Service> = (0..services).map(service).collect::<Result<_, _>>()?;
    let ends: Vec<[EndpointSlice; 2]> = (0..services).map(|n| slices(n, 8080)).collect::<Result<_, _>>()?;
    let ends = Cache::fixed(ends.into_iter().flatten());
    let catalog = Catalog::over(Cache::fixed(known), ends.clone(), &tasks);
    catalog.synced().await;
    let began = now();
    let balancing = Services::start(&catalog, &Cache::fixed([]), &config(scratch)?, &tasks)?;
    balancing.ready().await;
    let (mut told, load) = timed(began, catalog.changes());
    let mut costs = Vec::new();
    for change in 0..changes {
        let (n, port) = nth_change(change, services);
        let [_, last] = slices(n, port)?;
        let began = now();
        ends.apply(last);
        // Once the catalog has told us it has told the balancing, which began to listen before us.
        told.recv().await.context("the catalog's end")?;
        balancing.caught_up().await;
        costs.push(timed(began, ()).1);
    }
    tasks.shutdown().await;
    Ok(Row { load, changes: costs })
}

// ---- the peer: a chain per Service and per endpoint, found through one map of verdicts ----

const FRAME: &str = "table ip kube-proxy {
 map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
 chain mark-for-masquerade { mark set mark or 0x4000; }
 chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
 chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
 chain nat-output { type nat hook output priority -100; policy accept; jump services; }
 chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept;
  mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random; }
}
";

fn endpoint_chain(n: u32, e: u32, port: u16) -> String {
    format!("endpoint-{n}-{}-{port}", endpoint_ip(n, e))
}

fn add_endpoint(text: &mut String, n: u32, e: u32, port: u16) {
    let (chain, ip) = (endpoint_chain(n, e, port), endpoint_ip(n, e));
    let _ = writeln!(text, "add chain ip kube-proxy {chain}");
    let _ = writeln!(
        text,
        "add rule ip kube-proxy {chain} ip saddr {ip} jump mark-for-masquerade"
    );
    let _ = writeln!(
        text,
        "add rule ip kube-proxy {chain} meta l4proto tcp dnat to {ip}:{port}"
    );
}

/// The rules of a Service's chain; its last endpoint has this port.
fn service_rules(text: &mut String, n: u32, port: u16) {
    let ip = cluster_ip(n);
    let ends = (0..ENDPOINTS).map(|e| {
        let port = if e == ENDPOINTS - 1 { port } else { 8080 };
        format!("{e} : goto {}", endpoint_chain(n, e, port))
    });
    let ends: Vec<String> = ends.collect();
    let _ = writeln!(
        text,
        "add rule ip kube-proxy service-{n} ip daddr {ip} tcp dport 80 ip saddr != 10.64.0.0/10 jump mark-for-masquerade"
    );
    let _ = writeln!(
        text,
        "add rule ip kube-proxy service-{n} numgen random mod {ENDPOINTS} vmap {{ {} }}",
        ends.join(", ")
    );
}

fn kube_proxy(services: u32, changes: u32) -> anyhow::Result<Row> {
    let mut whole = FRAME.to_owned();
    for n in 0..services {
        (0..ENDPOINTS).for_each(|e| add_endpoint(&mut whole, n, e, 8080));
        let _ = writeln!(whole, "add chain ip kube-proxy service-{n}");
        service_rules(&mut whole, n, 8080);
        let (ip, element) = (cluster_ip(n), format!("tcp . 80 : goto service-{n}"));
        let _ = writeln!(
            whole,
            "add element ip kube-proxy service-ips {{ {ip} . {element} }}"
        );
    }
    let began = now();
    nft(&whole)?;
    let load = timed(began, ()).1;
    let mut ports = vec![8080; services as usize];
    let mut costs = Vec::new();
    for change in 0..changes {
        let (n, port) = nth_change(change, services);
        let Some(old) = ports.get_mut(n as usize) else {
            continue;
        };
        let mut text = String::new();
        add_endpoint(&mut text, n, ENDPOINTS - 1, port);
        let _ = writeln!(text, "flush chain ip kube-proxy service-{n}");
        service_rules(&mut text, n, port);
        let gone = endpoint_chain(n, ENDPOINTS - 1, *old);
        let _ = writeln!(
            text,
            "flush chain ip kube-proxy {gone}\ndelete chain ip kube-proxy {gone}"
        );
        *old = port;
        let began = now();
        nft(&text)?;
        costs.push(timed(began, ()).1);
    }
    Ok(Row { load, changes: costs })
}

/// Has `nft` carry out a transaction.
fn nft(text: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft, of Debian's nftables")?;
    let mut stdin = child.stdin.take().context("nft's input")?;
    std::io::Write::write_all(&mut stdin, text.as_bytes())?;
    drop(stdin);
    let status = child.wait()?;
    ensure!(status.success(), "nft: {status}");
    Ok(())
}
