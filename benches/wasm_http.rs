//! One `wasi:http` component in a pod and under `wasmtime serve`, with a fresh
//! instance per request and with instances reused, beside a native server.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};

use crate::backend;
use crate::load;
use crate::node::Node;
use crate::pods;
use kit::process::{Peer, await_port};

/// On pods: instances answer many requests.
pub const REUSE: &str = "coracle.dev/wasm-reuse";

/// Prints the table.
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
    load::compare(
        &format!(
            "HTTP requests to one component, 32 kept connections, median of rounds of {seconds} s in turns"
        ),
        "server",
        &ways,
        seconds,
    )
}

/// A pod of the program, which answers.
pub async fn wasm_pod(api: &Api<Pod>, name: &str, reuse: bool) -> anyhow::Result<String> {
    let mut pod = pods::pod(name, pods::WASM)?;
    let reuse = (REUSE.to_owned(), reuse.to_string());
    pod.metadata.annotations = Some([reuse].into());
    api.create(&PostParams::default(), &pod).await?;
    let address = pods::address(api, name).await?;
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
