//! Reads of the latest, which show every write that was acknowledged before.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kit::table::{self, median, ms};

use crate::grpc::Client;
use crate::load::{KEYS, Until, What, run};
use crate::proto::{RANGE, RangeRequest, RangeResponse, past};
use crate::servers::{Contestant, Servers};
use crate::value::{PREFIX, Values};
use crate::writes::Effort;

/// How many read at once.
const READERS: [usize; 3] = [1, 16, 256];
/// How often everything is listed.
const LISTS: usize = 20;

/// Prints the table.
pub async fn measure(all: &[Contestant], scratch: &Path, effort: Effort) -> anyhow::Result<()> {
    let mut rows = vec![];
    for members in [1, 3] {
        for contestant in all {
            let servers = Servers::start(contestant, members, &scratch.join("data")).await?;
            let (leader, values) = (servers.leader().await?, Values::new());
            run(&leader, 256, What::Write, Until::Written(KEYS), &values).await?;
            for readers in READERS {
                let before = servers.cpu();
                let until = Until::Elapsed(Duration::from_secs(effort.seconds));
                let round = run(&leader, readers, What::Read, until, &values).await?;
                let cpu = (servers.cpu() - before).as_secs_f64() * 10_000.0 / round.calls.max(1) as f64;
                rows.push(vec![
                    contestant.name.clone(),
                    members.to_string(),
                    format!("one key, {readers} readers"),
                    format!("{:.0}", round.per_second),
                    format!("{:.2} ms", round.p50),
                    format!("{:.2} ms", round.p99),
                    format!("{cpu:.2}"),
                ]);
            }
            rows.push(lists(contestant, members, &servers, &leader).await?);
        }
    }
    table::print(
        "Linearizable reads, asked of the leader",
        &[
            "store",
            "members",
            "what",
            "a second",
            "p50",
            "p99",
            "CPU s per 10,000",
        ],
        &rows,
    );
    Ok(())
}

/// All keys in one answer, several times.
async fn lists(
    contestant: &Contestant,
    members: usize,
    servers: &Servers,
    leader: &str,
) -> anyhow::Result<Vec<String>> {
    let mut client = Client::connect(leader).await?;
    let question = RangeRequest {
        key: PREFIX.into(),
        range_end: past(PREFIX),
    };
    let (mut times, before) = (vec![], servers.cpu());
    for _ in 0..LISTS {
        let asked = Instant::now();
        let answer: RangeResponse = client.call(RANGE, &question).await?;
        times.push(ms(asked.elapsed()));
        ensure!(answer.kvs.len() as u64 == KEYS, "{} keys", answer.kvs.len());
    }
    let cpu = (servers.cpu() - before).as_secs_f64() * 10_000.0 / LISTS as f64;
    Ok(vec![
        contestant.name.clone(),
        members.to_string(),
        format!("all {KEYS} keys"),
        format!("{:.1}", 1000.0 / median(&times)),
        format!("{:.2} ms", median(&times)),
        format!("{:.2} ms", table::quantile(&mut times, 0.99)),
        format!("{cpu:.0}"),
    ])
}
