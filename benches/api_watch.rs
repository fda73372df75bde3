//! Many watchers of one collection, while it changes as fast as it can.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::request::{Request, ResourceRef, User, Verb};
use client::{Api, HttpApi};
use futures_util::StreamExt;
use http::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::{self as bench, MAPS};
use crate::node::Node;
use crate::table;

/// Watchers, each with a connection of its own.
const WATCHERS: usize = 100;
/// How long the last event may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// When each revision was answered to its writer, or arrived at a watcher.
type Times = HashMap<u64, Instant>;

/// Prints how late events arrive after the answers to the PUTs that made them.
pub async fn measure(node: &Node, doors: &[Arc<HttpApi>], changes: usize) -> anyhow::Result<()> {
    let door = doors.first().context("a connection")?;
    let path = format!("{MAPS}?limit=1");
    let list = bench::sent(door, Method::GET, &path, String::new()).await?;
    let from = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a revision")?
        .to_owned();
    let mut watchers = JoinSet::new();
    let open = Arc::new(AtomicUsize::new(0));
    for door in bench::doors(node, WATCHERS)? {
        watchers.spawn(watch(door, from.clone(), changes, open.clone()));
    }
    while open.load(Ordering::Relaxed) < WATCHERS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (cpu, began) = (node.cpu(), Instant::now());
    let answered = put(doors, changes).await?;
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
async fn put(doors: &[Arc<HttpApi>], changes: usize) -> anyhow::Result<Times> {
    let mut writers = JoinSet::new();
    for (first, door) in doors.iter().cloned().enumerate() {
        let numbers = (first..changes).step_by(doors.len());
        writers.spawn(async move {
            let mut times = Vec::new();
            for number in numbers {
                let path = format!("{MAPS}/bench-{number}");
                let answer = bench::sent(&door, Method::PUT, &path, bench::map(number, "watched")).await?;
                times.push((revision(&answer)?, Instant::now()));
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

fn revision(object: &Value) -> anyhow::Result<u64> {
    let text = object["metadata"]["resourceVersion"]
        .as_str()
        .context("a revision")?;
    Ok(text.parse()?)
}

/// Follows the collection until that many events have come.
async fn watch(
    door: Arc<HttpApi>,
    from: String,
    changes: usize,
    open: Arc<AtomicUsize>,
) -> anyhow::Result<Vec<(u64, Instant)>> {
    let resource = ResourceRef::new("", "v1", "configmaps");
    let mut request = Request::new(User::default(), Verb::Watch, resource, "default", "");
    request.options.resource_version = Some(from);
    let events = door.watch(request).await;
    let mut events = events.map_err(|status| anyhow::anyhow!("watch: {}", status.message))?;
    open.fetch_add(1, Ordering::Relaxed);
    let mut seen = Vec::with_capacity(changes);
    while seen.len() < changes {
        let Some(event) = events.next().await else {
            bail!("the watch ended after {} events", seen.len());
        };
        let at = Instant::now();
        let event = event.map_err(|status| anyhow::anyhow!("watch: {}", status.message))?;
        seen.push((written_at(&event.object)?, at));
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
