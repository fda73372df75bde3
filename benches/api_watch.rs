//! Many watchers of one collection, while it changes as fast as it can.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::api::{self as bench, MAPS};
use crate::node::Node;
use crate::table;
use crate::wire::Wire;

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
    let path = format!("{MAPS}?watch=true&resourceVersion={}", written_at(&list)?);
    let mut watchers = JoinSet::new();
    for wire in bench::wires(node, WATCHERS).await? {
        let body = wire.follow(&path).await?;
        watchers.spawn(async move {
            let seen = watch(body, changes).await;
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
                let answer = wire
                    .ask(Method::PUT, &path, bench::map(number, "watched"))
                    .await?;
                times.push((written_at(&answer)?, Instant::now()));
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

/// Follows the collection until that many events have come.
async fn watch(mut body: Incoming, changes: usize) -> anyhow::Result<Vec<(u64, Instant)>> {
    let mut seen = Vec::with_capacity(changes);
    let mut begun = Vec::new();
    while seen.len() < changes {
        let Some(frame) = body.frame().await else {
            bail!("the watch ended after {} events", seen.len());
        };
        let (frame, at) = (frame?, Instant::now());
        let Some(piece) = frame.data_ref() else { continue };
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(line);
            if line.ends_with(b"\n") {
                seen.push((written_at(&begun)?, at));
                begun.clear();
            }
        }
    }
    Ok(seen)
}

/// The resource version of an object's text, without reading the rest of it: the generator must not be what is slow.
fn written_at(text: &[u8]) -> anyhow::Result<u64> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let at = text
        .windows(KEY.len())
        .position(|window| window == KEY)
        .context("a revision")?;
    let digits = text
        .iter()
        .skip(at + KEY.len())
        .take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
