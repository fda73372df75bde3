//! The load: the same for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::table::{ms, quantile};

use crate::h2::Connection;
use crate::proto::{PUT, PutRequest, RANGE, RangeRequest};
use crate::value::{Values, key, scattered};

/// So many clients share a connection, as those of an API server do.
const SHARING: usize = 64;
/// An answer to a write tells at least in which cluster it was, by which member, and when.
const WRITTEN_BYTES: usize = 16;
/// One to a read has the value.
const READ_BYTES: usize = 1024;
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
    let path = match what {
        What::Write => PUT,
        What::Read => RANGE,
    };
    let mut connections = vec![];
    for _ in 0..clients.div_ceil(SHARING) {
        connections.push(Connection::open(address, path).await?);
    }
    let questions = Questions {
        until,
        numbers: Arc::default(),
        values: values.clone(),
        began: Instant::now(),
    };
    let (mut tasks, mut left) = (vec![], clients);
    for connection in connections {
        let sharing = left.min(SHARING);
        left -= sharing;
        let questions = questions.clone();
        tasks.push(match what {
            What::Write => tokio::spawn(connection.work(sharing, WRITTEN_BYTES, move || questions.write())),
            What::Read => tokio::spawn(connection.work(sharing, READ_BYTES, move || questions.read())),
        });
    }
    let mut latencies = vec![];
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Round::of(latencies, questions.began.elapsed()))
}

/// What all clients ask, one after the other.
#[derive(Clone)]
struct Questions {
    until: Until,
    numbers: Arc<AtomicU64>,
    values: Values,
    began: Instant,
}

impl Questions {
    /// The number of the key that is next, unless it is time to stop.
    fn number(&self) -> Option<u64> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        match self.until {
            Until::Elapsed(time) => (self.began.elapsed() < time).then(|| scattered(number, KEYS)),
            Until::Written(count) => (number < count).then_some(number),
        }
    }

    fn write(&self) -> Option<PutRequest> {
        Some(PutRequest {
            key: key(self.number()?),
            value: self.values.next(),
        })
    }

    fn read(&self) -> Option<RangeRequest> {
        Some(RangeRequest {
            key: key(self.number()?),
            ..RangeRequest::default()
        })
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
