//! From POST of a pod to the first byte of its first answer, one pod after the
//! other, images present.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend;
use crate::node::Node;
use kit::process;
use kit::table::{self, ms, quantile};

/// Image of the Wasm guest.
pub const WASM: &str = "local/hello-http:1";
/// Image of the native server.
pub const NATIVE: &str = "local/backend:1";

/// Imports both images into a node.
pub fn stock(node: &Node, scratch: &Path) -> anyhow::Result<()> {
    node.import(Path::new("wasm-examples/hello-http.wasm"), WASM, &[])?;
    node.import(&backend::rootfs(scratch)?, NATIVE, &["--entrypoint", "/backend"])
}

/// A pod that answers on port 8080.
pub fn pod(name: &str, image: &str) -> anyhow::Result<Pod> {
    let mut container = json!({"name": "web", "image": image, "ports": [{"containerPort": 8080}]});
    if image == NATIVE {
        container["args"] = json!(["0.0.0.0:8080"]);
    }
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false},
    }))?)
}

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, count: usize) -> anyhow::Result<()> {
    let node = Node::start(bin, scratch, &[])?;
    stock(&node, scratch)?;
    node.ready().await?;
    let pods: Api<Pod> = Api::default_namespaced(node.client().await?);
    let sorts = [
        ("Wasm (`wasi:http`), compiled before", WASM),
        ("OCI (native server)", NATIVE),
    ];
    let mut times = [vec![], vec![]];
    let mut cpu = [Duration::ZERO; 2];
    // The first of each compiles the program and warms what there is to warm.
    for turn in 0..=count {
        for (sort, (_, image)) in sorts.iter().enumerate() {
            let before = process::machine_cpu();
            let took = once(&pods, &format!("bench-{sort}-{turn}"), image).await?;
            if turn > 0 {
                times[sort].push(ms(took));
                cpu[sort] += process::machine_cpu() - before;
            }
        }
    }
    let rows = sorts.iter().enumerate().map(|(sort, (name, _))| {
        let mut of = |share| format!("{:.1} ms", quantile(&mut times[sort], share));
        let (p50, p99, most) = (of(0.5), of(0.99), of(1.0));
        let cpu = format!("{:.1} ms", ms(cpu[sort]) / count as f64);
        vec![(*name).to_owned(), p50, p99, most, cpu]
    });
    table::print(
        &format!("POST of a pod → first byte of its first answer, {count} each, one at a time, in turns"),
        &[
            "pod",
            "p50",
            "p99",
            "slowest",
            "CPU of the machine per pod, deletion included",
        ],
        &rows.collect::<Vec<_>>(),
    );
    Ok(())
}

/// Creates a pod, waits for its answer, deletes it; how long the answer took.
async fn once(pods: &Api<Pod>, name: &str, image: &str) -> anyhow::Result<Duration> {
    let manifest = pod(name, image)?;
    let began = Instant::now();
    let made = pods.create(&PostParams::default(), &manifest).await?;
    let from = made.metadata.resource_version.context("a resourceVersion")?;
    let only = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(60);
    let mut events = pods.watch(&only, &from).await?.boxed();
    let address = loop {
        let Some(event) = events.try_next().await? else {
            bail!("{name} got no address within a minute");
        };
        if let WatchEvent::Modified(pod) | WatchEvent::Added(pod) = event
            && let Some(address) = pod.status.and_then(|status| status.pod_ip)
        {
            break address;
        }
    };
    first_byte(&address).await?;
    let took = began.elapsed();
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await?;
    while let Some(event) = events.try_next().await? {
        if matches!(event, WatchEvent::Deleted(_)) {
            return Ok(took);
        }
    }
    bail!("{name} did not go")
}

/// A pod's address, once it has one.
pub async fn address(api: &Api<Pod>, name: &str) -> anyhow::Result<String> {
    for _ in 0..600 {
        if let Some(address) = api.get(name).await?.status.and_then(|status| status.pod_ip) {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{name} gets no address")
}

/// Asks until there is an answer.
pub async fn first_byte(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let mut byte = [0; 1];
        let asked = async {
            let mut stream = TcpStream::connect((address, 8080)).await?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            stream.read_exact(&mut byte).await
        };
        match asked.await {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > Duration::from_secs(60) => {
                bail!("{address} does not answer: {error}")
            }
            Err(_) => tokio::time::sleep(Duration::from_micros(500)).await,
        }
    }
}
