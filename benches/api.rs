//! The API server's verbs: what they cost it, and how many of them it answers.
//!
//! 32 connections of HTTP/2 with one request each under way, ConfigMaps of 1 KiB. The load generator shares the
//! machine, so CPU of the node says more than requests per second; and as machines differ, and one machine from day to
//! day, the same requests go to a server that does nothing (`bare.rs`).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use wire::Wire;

use crate::api_watch;
use crate::bare::Bare;
use crate::maps::{MAPS, map, wires};
use crate::node::Node;
use kit::table::{self, mib};

/// Connections, each with one request under way.
pub const CONNECTIONS: usize = 32;
/// Bytes of an answer: an object's text with what the server adds.
const ANSWER_BYTES: usize = 1536;
/// Definitions of kinds.
const DEFINITIONS: usize = 1000;
/// How often everything is listed.
const LISTS: usize = 20;
/// What a server frees after work it has given back within this time.
const REST: Duration = Duration::from_secs(15);

/// Prints the tables for that many objects.
pub async fn measure(bin: &Path, scratch: &Path, objects: usize) -> anyhow::Result<()> {
    let node = Node::start(bin, scratch, &[])?;
    node.ready().await?;
    tokio::time::sleep(REST).await;
    let idle = node.memory("VmRSS");
    let wires = wires(&node, CONNECTIONS).await?;
    let full = verbs(&node, &wires, objects).await?;
    lists(&node, &wires).await?;
    api_watch::measure(&node, &wires, objects).await?;
    let defined = definitions(&node, &wires).await?;
    let rows = [
        (
            "idle, server and agent",
            format!("{:.0} MiB", mib(idle)),
            "517 MiB, control plane alone",
        ),
        (
            "per stored ConfigMap",
            format!("{:.1} KiB", grown(idle, full) / 1024.0 / objects as f64),
            "–",
        ),
        (
            "1,000 CustomResourceDefinitions",
            format!("{:.0} MiB", defined / f64::from(1 << 20)),
            "–",
        ),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(what, ours, k8s)| vec![what.into(), ours, k8s.into()])
        .collect();
    table::print("Resident memory", &["what", "coracle", "Kubernetes 1.36"], &rows);
    Ok(())
}

/// Creates, reads and replaces objects; resident memory once all are there.
async fn verbs(node: &Node, wires: &[Wire], objects: usize) -> anyhow::Result<u64> {
    let mut rows = Vec::new();
    let bare = Bare::start(node, ANSWER_BYTES)?;
    let asked = Asked {
        floor: bare.wires(&node.kubeconfig(), CONNECTIONS).await?,
        node,
        wires,
        bare,
    };
    let create = |n: usize| (Method::POST, MAPS.to_owned(), map(n, "created"));
    rows.push(asked.verb("create", objects, create, "1,700", "1.03").await?);
    tokio::time::sleep(REST).await;
    let full = node.memory("VmRSS");
    let get = |n: usize| {
        (
            Method::GET,
            format!("{MAPS}/bench-{}", n % objects),
            String::new(),
        )
    };
    rows.push(asked.verb("GET", 4 * objects, get, "3,500–4,700", "0.46").await?);
    let put = |n: usize| (Method::PUT, format!("{MAPS}/bench-{n}"), map(n, "put"));
    rows.push(asked.verb("PUT", objects, put, "1,550", "–").await?);
    let head = [
        "verb",
        "CPU s per 1,000",
        "a second",
        "nothing but HTTP",
        "Kubernetes 1.36: CPU s per 1,000",
        "a second",
    ];
    table::print(
        &format!("{objects} ConfigMaps of 1 KiB over {CONNECTIONS} connections"),
        &head,
        &rows,
    );
    Ok(full)
}

fn grown(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64
}

/// Who is asked: the node, and the server that does nothing.
struct Asked<'n> {
    node: &'n Node,
    wires: &'n [Wire],
    bare: Bare,
    floor: Vec<Wire>,
}

impl Asked<'_> {
    /// Does `count` requests; CPU for a thousand, and how many a second.
    async fn verb(
        &self,
        name: &str,
        count: usize,
        request: impl Fn(usize) -> (Method, String, String),
        their_rate: &str,
        their_cpu: &str,
    ) -> anyhow::Result<Vec<String>> {
        let per_thousand = |used: Duration| format!("{:.3}", used.as_secs_f64() * 1000.0 / count as f64);
        let (cpu, began) = (self.node.cpu(), Instant::now());
        all(self.wires, count, &request).await?;
        let (used, took) = (self.node.cpu() - cpu, began.elapsed());
        let cpu = self.bare.cpu();
        all(&self.floor, count, &request).await?;
        Ok(vec![
            name.to_owned(),
            per_thousand(used),
            format!("{:.0}", count as f64 / took.as_secs_f64()),
            per_thousand(self.bare.cpu() - cpu),
            their_cpu.to_owned(),
            their_rate.to_owned(),
        ])
    }
}

/// Does `count` requests, one under way on each connection; every one must succeed.
async fn all(
    wires: &[Wire],
    count: usize,
    request: impl Fn(usize) -> (Method, String, String),
) -> anyhow::Result<()> {
    let workers = wires.iter().enumerate().map(|(first, wire)| {
        let numbers = (first..count).step_by(wires.len());
        let request = &request;
        async move {
            for number in numbers {
                let (method, path, body) = request(number);
                wire.ask(method, &path, body).await?;
            }
            anyhow::Ok(())
        }
    });
    stream::iter(workers)
        .buffer_unordered(wires.len())
        .try_collect::<()>()
        .await
}

async fn lists(node: &Node, wires: &[Wire]) -> anyhow::Result<()> {
    let wire = wires.first().context("a connection")?;
    let (bytes, used, took) = list(wire, || node.cpu()).await?;
    let bare = Bare::start(node, bytes)?;
    let floor = bare.wires(&node.kubeconfig(), 1).await?;
    let (_, least, _) = list(floor.first().context("a connection")?, || bare.cpu()).await?;
    let row = vec![
        format!("{:.1} MB", bytes as f64 / 1e6),
        format!("{used:.1} ms"),
        format!("{least:.1} ms"),
        format!("{took:.0} ms"),
        "71–84 ms".to_owned(),
    ];
    let head = [
        "LIST of all",
        "CPU",
        "nothing but HTTP",
        "wall, median",
        "Kubernetes 1.36: wall (7.3 MB)",
    ];
    table::print(&format!("LIST over one connection, {LISTS} times"), &head, &[row]);
    Ok(())
}

/// Lists everything over and over: bytes of an answer, the server's CPU for it and its median time, in milliseconds.
async fn list(wire: &Wire, cpu: impl Fn() -> Duration) -> anyhow::Result<(usize, f64, f64)> {
    let (mut took, mut bytes) = (Vec::new(), 0);
    let before = cpu();
    for _ in 0..LISTS {
        let began = Instant::now();
        let answer = wire.ask(Method::GET, MAPS, String::new()).await?;
        took.push(table::ms(began.elapsed()));
        bytes = answer.len();
    }
    let used = table::ms(cpu() - before) / LISTS as f64;
    Ok((bytes, used, table::median(&took)))
}

/// Makes the definitions, waits until all are served; bytes of memory that they take.
async fn definitions(node: &Node, wires: &[Wire]) -> anyhow::Result<f64> {
    let before = node.memory("VmRSS");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    all(wires, DEFINITIONS, |n| {
        (Method::POST, path.to_owned(), definition(n))
    })
    .await?;
    let wire = wires.first().context("a connection")?;
    for number in 0..DEFINITIONS {
        let served = format!("/apis/bench{number}.example.com/v1/things");
        while wire.try_ask(Method::GET, &served, String::new()).await?.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(REST).await;
    Ok(grown(before, node.memory("VmRSS")))
}

/// A definition of the size that people's have: thirty described fields.
fn definition(number: usize) -> String {
    let field = |n: usize| {
        let text = json!({ "type": "string", "maxLength": 64, "description": format!("What field {n} of the thing means.") });
        (format!("field{n}"), text)
    };
    let fields: serde_json::Map<String, Value> = (0..30).map(field).collect();
    let group = format!("bench{number}.example.com");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": fields } } } } }],
        },
    })
    .to_string()
}
