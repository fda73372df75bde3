//! Thousands of Wasm pods on one node, made through the API, each answering.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};

use crate::node::Node;
use crate::pods;
use kit::table::{self, mib};

/// Requests under way at once.
const AT_ONCE: usize = 32;

/// Prints the table, a column per number of pods.
pub async fn measure(bin: &Path, scratch: &Path, counts: &[usize]) -> anyhow::Result<()> {
    let mut rows: Vec<Vec<String>> = [
        "all posted after",
        "all running after",
        "all have answered after",
        "CPU of the node until then",
        "memory before, resident",
        "memory with all, resident",
        "per pod",
        "CPU when idle, over a minute",
    ]
    .iter()
    .map(|what| vec![(*what).to_owned()])
    .collect();
    for &count in counts {
        let figures = fill(bin, &scratch.join(count.to_string()), count).await?;
        rows.iter_mut()
            .zip(figures)
            .for_each(|(row, figure)| row.push(figure));
    }
    let head: Vec<String> = std::iter::once("what".to_owned())
        .chain(counts.iter().map(|count| format!("{count} pods")))
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    table::print("Wasm pods on one node, created through the API", &head, &rows);
    Ok(())
}

async fn fill(bin: &Path, scratch: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(scratch)?;
    let node = Node::start(
        bin,
        scratch,
        &["--node-cidr-mask-size", "18", "--max-pods", "16000"],
    )?;
    node.import(Path::new("wasm-examples/hello-http.wasm"), pods::WASM, &[])?;
    node.ready().await?;
    let api: Api<Pod> = Api::default_namespaced(node.client().await?);
    let (cpu, memory) = (node.cpu(), node.memory("VmRSS"));
    let began = Instant::now();
    stream::iter(0..count)
        .map(|number| {
            let api = api.clone();
            async move {
                let pod = pods::pod(&format!("dense-{number}"), pods::WASM)?;
                anyhow::Ok(api.create(&PostParams::default(), &pod).await.map(drop)?)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let posted = began.elapsed();
    let addresses = running(&api, count).await?;
    let run = began.elapsed();
    let asked = stream::iter(addresses).map(|address| async move { pods::first_byte(&address).await });
    asked.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let answered = began.elapsed();
    let (used, full) = (node.cpu() - cpu, node.memory("VmRSS"));
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = node.cpu();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let idle = (node.cpu() - before).as_secs_f64() / 60.0;
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    Ok(vec![
        seconds(posted),
        seconds(run),
        seconds(answered),
        seconds(used),
        format!("{:.0} MiB", mib(memory)),
        format!("{:.0} MiB", mib(full)),
        format!(
            "{:.0} KiB",
            full.saturating_sub(memory) as f64 / 1024.0 / count as f64
        ),
        format!("{:.2} % of a core", idle * 100.0),
    ])
}

/// Waits until all pods run; their addresses.
async fn running(api: &Api<Pod>, count: usize) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    loop {
        let list = api
            .list(&ListParams::default().fields("status.phase=Running"))
            .await?;
        if list.items.len() >= count {
            let addresses: Vec<String> = list
                .items
                .into_iter()
                .filter_map(|pod| pod.status?.pod_ip)
                .collect();
            ensure!(
                addresses.len() == count,
                "{} pods have no address",
                count - addresses.len()
            );
            return Ok(addresses);
        }
        if began.elapsed() > Duration::from_secs(600) {
            bail!("only {} of {count} pods run", list.items.len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
