//! The load: the same for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::table::{ms, quantile};

use crate::grpc::Client;
use crate::proto::{PUT, PutRequest, PutResponse, RANGE, RangeRequest, RangeResponse};
use crate::value::{Values, key, scattered};

/// So many clients share a connection, as those of an API server do.
const SHARING: usize = 64;
/// How many keys are written and read.
pub const KEYS: u64 = 10_000;

/// What a round gave.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Answered calls.
    pub calls: u64,
    /// Answered calls a second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Write one of the [`KEYS`] after the other.
    Write,
    /// Read one of them, as it is now.
    Read,
}

/// When clients stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many writes, each of a key of its own.
    Written(u64),
}

/// Lets so many clients work, each waiting for one answer before it asks again.
pub async fn run(
    address: &str,
    clients: usize,
    what: What,
    until: Until,
    values: &Values,
) -> anyhow::Result<Round> {
    let mut connections = vec![];
    for _ in 0..clients.div_ceil(SHARING) {
        connections.push(Client::connect(address).await?);
    }
    let (numbers, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = vec![];
    for at in 0..clients {
        let worker = Worker {
            client: connections[at % connections.len()].clone(),
            numbers: numbers.clone(),
            values: values.clone(),
            what,
            until,
        };
        tasks.push(tokio::spawn(worker.work(began)));
    }
    let mut latencies = vec![];
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Round::of(latencies, began.elapsed()))
}

struct Worker {
    client: Client,
    numbers: Arc<AtomicU64>,
    values: Values,
    what: What,
    until: Until,
}

impl Worker {
    async fn work(mut self, began: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = vec![];
        loop {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let number = match self.until {
                Until::Elapsed(time) if began.elapsed() >= time => return Ok(latencies),
                Until::Written(count) if number >= count => return Ok(latencies),
                Until::Elapsed(_) => scattered(number, KEYS),
                Until::Written(_) => number,
            };
            let asked = Instant::now();
            self.ask(number).await?;
            latencies.push(asked.elapsed());
        }
    }

    async fn ask(&mut self, number: u64) -> anyhow::Result<()> {
        match self.what {
            What::Write => {
                let request = PutRequest {
                    key: key(number),
                    value: self.values.next(),
                };
                self.client.call::<PutResponse>(PUT, &request).await.map(drop)
            }
            What::Read => {
                let request = RangeRequest {
                    key: key(number),
                    ..RangeRequest::default()
                };
                let answer: RangeResponse = self.client.call(RANGE, &request).await?;
                anyhow::ensure!(answer.kvs.len() == 1, "nothing under {:?}", request.key);
                Ok(())
            }
        }
    }
}

impl Round {
    /// The figures of calls that took so long, in all that time.
    pub fn of(latencies: Vec<Duration>, time: Duration) -> Self {
        let mut sorted: Vec<f64> = latencies.into_iter().map(ms).collect();
        Round {
            calls: sorted.len() as u64,
            per_second: sorted.len() as f64 / time.as_secs_f64(),
            p50: quantile(&mut sorted, 0.5),
            p99: quantile(&mut sorted, 0.99),
        }
    }
}
