//! How long writes pause when the leader of three is killed, and when leadership is handed over in order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use kit::pauses::{self, Answered, Pause};
use kit::table;

use crate::grpc::Client;
use crate::proto::{MOVE_LEADER, MoveLeaderRequest, PUT, PutRequest, PutResponse};
use crate::servers::{Contestant, Servers};
use crate::value::{Values, key};

const MEMBERS: usize = 3;
const WRITERS: usize = 4;
/// Pause of a client between two attempts.
const RETRY: Duration = Duration::from_millis(5);
/// Longest time that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// All is well for so long before the next trial.
const REST: Duration = Duration::from_millis(200);

/// Prints the table.
pub async fn measure(all: &[Contestant], scratch: &Path, trials: usize) -> anyhow::Result<()> {
    let mut rows = vec![];
    for contestant in all {
        let mut servers = Servers::start(contestant, MEMBERS, &scratch.join("data")).await?;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Answered::default());
        for writer in 0..WRITERS {
            let addresses = servers.addresses();
            tokio::spawn(write(addresses, writer, stop.clone(), answered.clone()));
        }
        let (mut killed, mut handed_over) = (vec![], vec![]);
        for _ in 0..trials {
            let leader = servers.leader_at().await?;
            let began = Instant::now();
            servers.kill(leader)?;
            killed.push(pause(&answered, began).await?);
            servers.restart(leader).await?;
            tokio::time::sleep(REST).await;
            handed_over.push(hand_over(&servers, &answered).await?);
            tokio::time::sleep(REST).await;
        }
        stop.store(true, Ordering::Relaxed);
        for (what, pauses) in [("leader killed", killed), ("leadership handed over", handed_over)] {
            let mut row = vec![contestant.name.clone(), what.to_owned()];
            row.extend(pauses::row(&pauses));
            rows.push(row);
        }
    }
    let mut head = vec!["store", "what"];
    head.extend(pauses::HEAD);
    let title =
        format!("{MEMBERS} members, {WRITERS} writers, {trials} trials each: longest time without an answer");
    table::print(&title, &head, &rows);
    Ok(())
}

async fn hand_over(servers: &Servers, answered: &Answered) -> anyhow::Result<Pause> {
    let leader = servers.leader_at().await?;
    let heir = (leader + 1) % MEMBERS;
    let target_id = servers.id(heir).await?;
    let mut client = Client::connect(&servers.addresses()[leader]).await?;
    let began = Instant::now();
    client
        .call::<PutResponse>(MOVE_LEADER, &MoveLeaderRequest { target_id })
        .await?;
    pause(answered, began).await
}

/// Waits until every writer is answered again.
async fn pause(answered: &Answered, began: Instant) -> anyhow::Result<Pause> {
    loop {
        if let Some(pause) = answered.pause(began, WRITERS) {
            return Ok(pause);
        }
        ensure!(began.elapsed() < PAUSE_MAX, "writes do not go on");
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes for ever; at the next member whenever one does not answer.
async fn write(addresses: Vec<String>, writer: usize, stop: Arc<AtomicBool>, answered: Answered) {
    let values = Values::new();
    let mut at = writer;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut client) = Client::connect(&addresses[at % addresses.len()]).await {
            while !stop.load(Ordering::Relaxed) {
                let request = PutRequest {
                    key: key(writer as u64),
                    value: values.next(),
                };
                let answer = tokio::time::timeout(PATIENCE, client.call::<PutResponse>(PUT, &request)).await;
                match answer {
                    Ok(Ok(_)) => answered.note(writer),
                    _ => break,
                }
            }
        }
        at += 1;
        tokio::time::sleep(RETRY).await;
    }
}
