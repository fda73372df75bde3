//! Priority and fairness: how requests share the server when there are more than it can carry out at once
//! (`flowcontrol.apiserver.k8s.io`).
//!
//! ```text
//! request ─ schema.rs ─▶ its flow and its level      plan.rs: made of the stored objects (follow.rs)
//!              width.rs ─▶ how many seats it takes
//!                level.rs ─▶ queues.rs: a seat, a place in a queue (shuffle.rs), or 429
//! every ten seconds: demand.rs ─▶ limits.rs: who lends seats to whom
//! ```
//!
//! Everything is decided by pure code with time and randomness as parameters; `level.rs` and this file are the edge.

mod demand;
mod dump;
mod follow;
mod level;
mod limits;
mod metrics;
mod objects;
mod plan;
mod queues;
mod schema;
mod shuffle;
mod timing;
mod width;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base::telemetry::Metrics;
use base::{Clock, Random};
use serde_json::Value;

pub use level::Seat;
pub use plan::Flow;
pub use queues::Refusal;
pub use schema::{Digest, Subject};
pub use width::{ListKey, Sizes, Sort, Work};
pub(crate) use width::{list, write};

use metrics::Series;
use plan::{Making, Plan};

/// How long a request waits for its turn (a quarter of the longest that one may take).
const PATIENCE: Duration = Duration::from_secs(15);
/// How often levels borrow from each other.
const BORROWING_PERIOD: Duration = Duration::from_secs(10);

/// How many requests are carried out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflight {
    /// Requests that only read (`--max-requests-inflight`). The sum of both is what levels share.
    pub reading: u64,
    /// Requests that change something (`--max-mutating-requests-inflight`).
    pub mutating: u64,
}

impl Default for Inflight {
    fn default() -> Self {
        Self {
            reading: 400,
            mutating: 200,
        }
    }
}

/// Flow control of a server.
pub struct Fairness {
    seats: u64,
    /// Which hands flows have is this server's secret.
    seed: u64,
    series: Series,
    sizes: Sizes,
    clock: Arc<dyn Clock>,
    // Std locks: nothing awaits while they are held.
    objects: Mutex<BTreeMap<String, Value>>,
    plan: RwLock<Arc<Plan>>,
}

impl Fairness {
    /// Flow control by the mandatory objects alone, until others are known.
    pub fn new(inflight: Inflight, metrics: &Metrics, clock: Arc<dyn Clock>, random: &dyn Random) -> Self {
        // Without a seat nobody could change it.
        let seats = (inflight.reading + inflight.mutating).max(1);
        let fairness = Self {
            seats,
            seed: random.number(),
            series: Series::new(metrics, seats, &clock),
            sizes: Sizes::default(),
            clock,
            objects: Mutex::default(),
            plan: RwLock::default(),
        };
        fairness.think(&BTreeMap::new());
        fairness
    }

    /// The schema that a request belongs to.
    pub fn flow(&self, request: &Digest) -> Option<Arc<Flow>> {
        self.plan().flow(request).cloned()
    }

    /// Waits until a request may be carried out; it may until what is returned is dropped.
    ///
    /// # Errors
    /// When there are too many.
    pub async fn enter(&self, flow: &Flow, request: &Digest<'_>, work: Work) -> Result<Seat, Refusal> {
        let hash = match flow.exempt {
            true => 0,
            false => shuffle::flow(self.seed, &flow.schema.name, flow.schema.flow(request)),
        };
        flow.level.enter(&flow.counts, hash, work, PATIENCE).await
    }

    /// How large lists are.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Lets levels borrow from each other, for ever.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(BORROWING_PERIOD).await;
            self.lend();
        }
    }

    fn lend(&self) {
        let plan = self.plan();
        let levels: Vec<_> = plan.levels().collect();
        let wishes: Vec<_> = levels.iter().map(|level| level.wish()).collect();
        let (given, fraction) = limits::shared(self.seats as f64, &wishes);
        self.series.fraction(fraction);
        for (level, seats) in levels.iter().zip(given) {
            level.give(seats.round() as u64);
        }
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a plan of these objects, by their keys.
    fn think(&self, objects: &BTreeMap<String, Value>) {
        let (mut levels, mut schemas) = objects::sorted(objects);
        objects::add_mandatory(&mut levels, &mut schemas);
        let making = Making {
            seats: self.seats,
            series: &self.series,
            clock: &self.clock,
        };
        let plan = Plan::new(&levels, &schemas, &self.plan(), &making);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }
}

#[cfg(test)]
mod tests;
