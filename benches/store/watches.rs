//! Many watchers of the same keys, while some write.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kit::table::{self, quantile};
use tokio::sync::Barrier;

use crate::grpc::{Answers, Client};
use crate::load::{Until, What, run};
use crate::proto::{WATCH, WatchCreateRequest, WatchRequest, WatchResponse, past};
use crate::servers::{Contestant, Servers};
use crate::value::{PREFIX, Values};

const WATCHERS: usize = 100;
/// Watchers that share a connection.
const SHARING: usize = 10;
const WRITERS: usize = 16;
const WRITES: u64 = 10_000;
/// Longest time that a watcher may stay behind.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints the table.
pub async fn measure(all: &[Contestant], scratch: &Path) -> anyhow::Result<()> {
    let mut rows = vec![];
    for contestant in all {
        let servers = Servers::start(contestant, 1, &scratch.join("data")).await?;
        rows.push(watched(contestant, &servers).await?);
    }
    table::print(
        &format!("{WATCHERS} watchers of {WRITES} writes by {WRITERS} writers, one member"),
        &[
            "store",
            "events told",
            "writes done after",
            "all told after",
            "events/s",
            "CPU s per 100,000 events",
            "resident",
        ],
        &rows,
    );
    Ok(())
}

async fn watched(contestant: &Contestant, servers: &Servers) -> anyhow::Result<Vec<String>> {
    let (leader, values) = (servers.leader().await?, Values::new());
    let ready = Arc::new(Barrier::new(WATCHERS + 1));
    let (mut tasks, mut client) = (vec![], Client::connect(&leader).await?);
    for at in 0..WATCHERS {
        if at % SHARING == 0 {
            client = Client::connect(&leader).await?;
        }
        tasks.push(tokio::spawn(watch(client.clone(), ready.clone())));
    }
    ready.wait().await;
    let (began, before) = (Instant::now(), servers.cpu());
    run(&leader, WRITERS, What::Write, Until::Written(WRITES), &values).await?;
    let written = began.elapsed();
    let mut told = vec![];
    for task in tasks {
        told.push((task.await?? - began).as_secs_f64());
    }
    let last = quantile(&mut told, 1.0);
    let cpu = (servers.cpu() - before).as_secs_f64();
    let events = (WATCHERS as u64 * WRITES) as f64;
    Ok(vec![
        contestant.name.clone(),
        format!("{events:.0}"),
        format!("{:.2} s", written.as_secs_f64()),
        format!("{last:.2} s"),
        format!("{:.0}", events / last),
        format!("{:.2}", cpu * 100_000.0 / events),
        format!("{:.0} MiB", table::mib(servers.memory())),
    ])
}

/// Takes all events, in order and each once; when the last one came.
async fn watch(mut client: Client, ready: Arc<Barrier>) -> anyhow::Result<Instant> {
    let asked = WatchRequest {
        create: Some(WatchCreateRequest {
            key: PREFIX.into(),
            range_end: past(PREFIX),
            start_revision: 0,
        }),
    };
    let begun = client.stream(WATCH, &asked).await;
    let mut answers = begun?;
    answers.next::<WatchResponse>().await?;
    ready.wait().await;
    let taken = tokio::time::timeout(PATIENCE, take(&mut answers)).await;
    taken.context("a watcher did not get all events")??;
    Ok(Instant::now())
}

async fn take(answers: &mut Answers) -> anyhow::Result<()> {
    let (mut count, mut last) = (0, 0);
    while count < WRITES {
        let answer: WatchResponse = answers.next().await?;
        for event in &answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            anyhow::ensure!(revision > last, "{revision} came after {last}");
            (last, count) = (revision, count + 1);
        }
    }
    Ok(())
}
