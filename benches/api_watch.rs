//! Many watchers of one collection, while it changes as fast as it can.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::Method;
use tokio::task::JoinSet;
use wire::Wire;

use crate::maps::{self, MAPS};
use crate::node::Node;
use kit::table;

/// Watchers, each with a connection of its own.
const WATCHERS: usize = 100;
/// How long the last event may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// When each revision was answered to its writer, or arrived at a watcher.
type Times = HashMap<u64, Instant>;

/// Prints how late events arrive after the answers to the PUTs that made them.
pub async fn measure(node: &Node, wires: &[Wire], changes: usize) -> anyhow::Result<()> {
    let wire = wires.first().context("a connection")?;
    let list = wire
        .ask(Method::GET, &format!("{MAPS}?limit=1"), String::new())
        .await?;
    let path = format!("{MAPS}?watch=true&resourceVersion={}", wire::revision(&list)?);
    let mut watchers = JoinSet::new();
    for wire in maps::wires(node, WATCHERS).await? {
        let events = wire.watch(&path).await?;
        watchers.spawn(async move {
            let seen = events.take(changes).await;
            // The connection is needed until then.
            drop(wire);
            seen
        });
    }
    let (cpu, began) = (node.cpu(), Instant::now());
    let answered = put(wires, changes).await?;
    let written = began.elapsed();
    let seen = tokio::time::timeout(PATIENCE, watchers.join_all())
        .await
        .context("events are missing")?;
    let (used, took) = (node.cpu() - cpu, began.elapsed());
    let mut late = Vec::with_capacity(WATCHERS * changes);
    for times in seen {
        for (revision, at) in times? {
            let answer = answered.get(&revision).context("an event of nobody's")?;
            late.push(table::ms(at.saturating_duration_since(*answer)));
        }
    }
    let row = vec![
        late.len().to_string(),
        format!("{:.2} s", used.as_secs_f64()),
        format!("{:.1} ms", table::quantile(&mut late, 0.5)),
        format!("{:.1} ms", table::quantile(&mut late, 0.99)),
        format!("{:.1} s / {:.1} s", written.as_secs_f64(), took.as_secs_f64()),
        "158,397, then cut off".to_owned(),
    ];
    let head = [
        "events arrived",
        "CPU",
        "after the PUT's answer, p50",
        "p99",
        "PUTs / events, wall",
        "Kubernetes 1.36",
    ];
    table::print(&format!("{WATCHERS} watchers × {changes} PUTs"), &head, &[row]);
    Ok(())
}

/// Changes every object once; when each new revision was answered.
async fn put(wires: &[Wire], changes: usize) -> anyhow::Result<Times> {
    let mut writers = JoinSet::new();
    for (first, wire) in wires.iter().cloned().enumerate() {
        let numbers = (first..changes).step_by(wires.len());
        writers.spawn(async move {
            let mut times = Vec::new();
            for number in numbers {
                let path = format!("{MAPS}/bench-{number}");
                let answer = wire.ask(Method::PUT, &path, maps::map(number, "watched")).await?;
                times.push((wire::revision(&answer)?, Instant::now()));
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Times::new();
    for times in writers.join_all().await {
        all.extend(times?);
    }
    Ok(all)
}
