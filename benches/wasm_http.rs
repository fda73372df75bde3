//! One `wasi:http` component in a pod and under `wasmtime serve`, with a fresh
//! instance per request and with instances reused, beside a native server; and
//! what a request from one to another costs within a pod and between two.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};

use crate::backend;
use crate::load::{self, Connections};
use crate::node::Node;
use crate::pods;
use crate::process::{Peer, await_port};
use crate::services::{address, interleave};
use crate::table;

const REUSE: &str = "coracle.dev/wasm-reuse";

/// Prints the tables.
pub async fn measure(bin: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let node = Node::start(bin, scratch, &[])?;
    pods::stock(&node, scratch)?;
    node.ready().await?;
    let api: Api<Pod> = Api::default_namespaced(node.client().await?);
    let fresh = wasm_pod(&api, "fresh", false).await?;
    let reused = wasm_pod(&api, "reused", true).await?;
    let mut peers = vec![Peer::start(
        Command::new(backend::program()?).arg("127.0.0.1:8101"),
        &scratch.join("native.log"),
    )?];
    peers.push(wasmtime(scratch, 8102, 1)?);
    peers.push(wasmtime(scratch, 8103, 1_000_000)?);
    for port in 8101..=8103 {
        await_port(([127, 0, 0, 1], port).into())?;
    }
    let ways = [
        ("native, hyper", "http://127.0.0.1:8101/".to_owned()),
        (
            "coracle pod, instance per request",
            format!("http://{fresh}:8080/"),
        ),
        (
            "`wasmtime serve`, instance per request",
            "http://127.0.0.1:8102/".to_owned(),
        ),
        ("coracle pod, instances reused", format!("http://{reused}:8080/")),
        (
            "`wasmtime serve`, instances reused",
            "http://127.0.0.1:8103/".to_owned(),
        ),
    ];
    let mut rows = vec![];
    for (way, rounds) in ways.iter().zip(interleave(&ways, Connections::Kept, seconds)?) {
        rows.push([vec![way.0.to_owned()], load::median(&rounds).cells()].concat());
    }
    table::print(
        &format!(
            "HTTP requests to one component, 32 kept connections, median of rounds of {seconds} s in turns"
        ),
        &[
            "server",
            "requests/s",
            "p50",
            "p99",
            "CPU of the machine per request",
        ],
        &rows,
    );
    drop(peers);
    between(&api, &reused, seconds).await
}

/// One program that asks another for each request: in its own pod, in memory, and in another pod, by loopback.
async fn between(api: &Api<Pod>, stranger: &str, seconds: u64) -> anyhow::Result<()> {
    let mut pair = pods::pod("pair", pods::WASM)?;
    pair.metadata.annotations = Some([(REUSE.to_owned(), "true".to_owned())].into());
    let containers = &mut pair.spec.as_mut().context("a spec")?.containers;
    let mut back = containers.first().context("a container")?.clone();
    back.name = "back".to_owned();
    back.ports
        .iter_mut()
        .flatten()
        .for_each(|port| port.container_port = 8081);
    containers.push(back);
    api.create(&PostParams::default(), &pair).await?;
    let pair = address(api, "pair").await?;
    pods::first_byte(&pair).await?;
    let ask = |target: &str| format!("http://{pair}:8080/fetch?url=http://{target}/");
    let ways = [
        ("asks nobody", format!("http://{pair}:8080/")),
        ("asks a neighbour, in memory", ask("127.0.0.1:8081")),
        ("asks another pod, by loopback", ask(&format!("{stranger}:8080"))),
    ];
    let mut rows = vec![];
    for (way, rounds) in ways.iter().zip(interleave(&ways, Connections::Kept, seconds)?) {
        rows.push([vec![way.0.to_owned()], load::median(&rounds).cells()].concat());
    }
    table::print(
        &format!(
            "HTTP requests to a component that asks another each time, instances reused, 32 kept connections, median \
             of rounds of {seconds} s in turns"
        ),
        &[
            "the component",
            "requests/s",
            "p50",
            "p99",
            "CPU of the machine per request",
        ],
        &rows,
    );
    Ok(())
}

async fn wasm_pod(api: &Api<Pod>, name: &str, reuse: bool) -> anyhow::Result<String> {
    let mut pod = pods::pod(name, pods::WASM)?;
    let reuse = (REUSE.to_owned(), reuse.to_string());
    pod.metadata.annotations = Some([reuse].into());
    api.create(&PostParams::default(), &pod).await?;
    let address = address(api, name).await?;
    pods::first_byte(&address).await?;
    Ok(address)
}

/// `wasmtime serve` with so many requests to an instance.
fn wasmtime(scratch: &Path, port: u16, reuse: usize) -> anyhow::Result<Peer> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("CORACLE_CACHE").map_or_else(|| home.join(".cache/coracle"), PathBuf::from);
    let built = cache.join("tools/bench/bin/wasmtime");
    let program = if built.exists() { built } else { "wasmtime".into() };
    Peer::start(
        Command::new(program)
            .args(["serve", "-S", "cli", "--addr", &format!("127.0.0.1:{port}")])
            .args(["--max-instance-reuse-count", &reuse.to_string()])
            .arg("wasm-examples/hello-http.wasm"),
        &scratch.join(format!("wasmtime-{port}.log")),
    )
}
