//! What a request of one `wasi:http` component to another costs: within a pod, in memory, and between two, by loopback.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};

use crate::load;
use crate::node::Node;
use crate::pods;
use crate::wasm_http::{REUSE, wasm_pod};
use kit::process::await_port;

/// Where the asked one of a pair listens.
const BACK: u16 = 8081;

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let node = Node::start(bin, scratch, &[])?;
    pods::stock(&node, scratch)?;
    node.ready().await?;
    let api: Api<Pod> = Api::default_namespaced(node.client().await?);
    let stranger = wasm_pod(&api, "stranger", true).await?;
    let pair = pair(&api).await?;
    let ask = |target: &str| format!("http://{pair}:8080/fetch?url=http://{target}/");
    let ways = [
        ("asks nobody", format!("http://{pair}:8080/")),
        ("asks a neighbour, in memory", ask(&format!("127.0.0.1:{BACK}"))),
        ("asks another pod, by loopback", ask(&format!("{stranger}:8080"))),
    ];
    load::compare(
        &format!(
            "HTTP requests to a component that asks another each time, instances reused, 32 kept connections, median \
             of rounds of {seconds} s in turns"
        ),
        "the component",
        &ways,
        seconds,
    )
}

/// A pod of two containers that both answer.
async fn pair(api: &Api<Pod>) -> anyhow::Result<String> {
    let mut pair = pods::pod("pair", pods::WASM)?;
    pair.metadata.annotations = Some([(REUSE.to_owned(), "true".to_owned())].into());
    let containers = &mut pair.spec.as_mut().context("a spec")?.containers;
    let mut back = containers.first().context("a container")?.clone();
    back.name = "back".to_owned();
    let ports = back.ports.iter_mut().flatten();
    ports.for_each(|port| port.container_port = BACK.into());
    containers.push(back);
    api.create(&PostParams::default(), &pair).await?;
    let pair = pods::address(api, "pair").await?;
    pods::first_byte(&pair).await?;
    await_port((pair.parse::<std::net::IpAddr>()?, BACK).into())?;
    Ok(pair)
}
