//! Requests to three native servers in OCI pods: straight to one of them,
//! through their Service (the kernel balances connections), and through
//! HAProxy. The Service is balanced once by the kernel, once by the node's own
//! process.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::load::{self, Connections, ROUNDS};
use crate::node::Node;
use crate::pods;
use kit::process::{Peer, await_port};
use kit::sandbox::NODE_IP;

const BACKENDS: usize = 3;
/// The Service's name, and the label of its pods.
const SERVED: &str = "served";

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, proxy: &str, seconds: u64) -> anyhow::Result<()> {
    let node = Node::start(bin, scratch, &["--service-proxy", proxy])?;
    pods::stock(&node, scratch)?;
    node.ready().await?;
    let client = node.client().await?;
    // Each way has pods of its own. A pod remembers a closed connection by the
    // client's port and clock for a minute; the clock that Linux shows differs by
    // the address called, so one who calls now the pod and now the Service from
    // the same port is now and then taken for a ghost and waits a second.
    let [straight, served, proxied] = [
        backends(&client, "straight").await?,
        backends(&client, SERVED).await?,
        backends(&client, "proxied").await?,
    ];
    let service = service(&client).await?;
    for address in straight.iter().chain(&served).chain(&proxied).chain([&service]) {
        pods::first_byte(address).await?;
    }
    // What does as much: requests told apart, or bytes passed on.
    let mode = if proxy == "kernel" { "http" } else { "tcp" };
    let _haproxy = haproxy(scratch, &proxied, mode)?;
    let ways = [
        (
            "straight to a pod".to_owned(),
            format!("http://{}:8080/", straight[0]),
        ),
        (
            format!("through the Service, by {proxy}"),
            format!("http://{service}:8080/"),
        ),
        (
            format!("through HAProxy, mode {mode}"),
            format!("http://{NODE_IP}:9090/"),
        ),
    ];
    let mut rows = vec![];
    for (connections, label) in [
        (Connections::Kept, "kept connections"),
        (Connections::Fresh, "a connection per request"),
    ] {
        for (way, round) in ways.iter().zip(load::interleave(&ways, connections, seconds)?) {
            let head = vec![way.0.clone(), label.to_owned()];
            rows.push([head, round.cells()].concat());
        }
    }
    load::print(
        &format!(
            "Requests to {BACKENDS} native servers in pods, 32 clients, median of {ROUNDS} rounds of {seconds} s in turns"
        ),
        &["way", "clients"],
        &rows,
    );
    Ok(())
}

/// Makes the pods of one way; their addresses.
async fn backends(client: &kube::Client, app: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    for number in 0..BACKENDS {
        let mut pod = pods::pod(&format!("{app}-{number}"), pods::NATIVE)?;
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        api.create(&PostParams::default(), &pod).await?;
    }
    let mut addresses = vec![];
    for number in 0..BACKENDS {
        addresses.push(pods::address(&api, &format!("{app}-{number}")).await?);
    }
    Ok(addresses)
}

/// Makes the Service; its address.
async fn service(client: &kube::Client) -> anyhow::Result<String> {
    let api: Api<Service> = Api::default_namespaced(client.clone());
    let service = serde_json::from_value(json!({
        "metadata": {"name": SERVED},
        "spec": {"selector": {"app": SERVED}, "ports": [{"port": 8080}]},
    }))?;
    let made = api.create(&PostParams::default(), &service).await?;
    made.spec.and_then(|spec| spec.cluster_ip).context("a ClusterIP")
}

/// HAProxy in front of the pods, as its manual configures a plain HTTP proxy.
fn haproxy(scratch: &Path, backends: &[String], mode: &str) -> anyhow::Result<Peer> {
    let mut text =
        "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
                    timeout server 30s\nlisten web\n  bind :9090\n  balance random\n"
            .to_owned();
    text += &format!("  mode {mode}\n");
    for (number, backend) in backends.iter().enumerate() {
        text += &format!("  server s{number} {backend}:8080\n");
    }
    let file = scratch.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let peer = Peer::start(
        Command::new("haproxy").arg("-db").arg("-f").arg(&file),
        &scratch.join("haproxy.log"),
    )?;
    await_port(format!("{NODE_IP}:9090").parse()?)?;
    Ok(peer)
}
