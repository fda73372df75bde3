//! Clients at work, and what they are judged by.

mod caller;
mod shared;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use api::request::Verb;
use client::{Api, HttpApi};
use linear::Registers;
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use self::caller::Caller;
use self::shared::{KEYS, Shared, lock, shown};
use self::watch::Watch;
use crate::support::servers::Servers;
use crate::support::{eventually, maps};

/// Clients that write and read.
const CALLERS: usize = 8;
/// Watches; each begins at another server, and goes on at the next when it breaks off.
const WATCHES: usize = 4;
/// Less than this in a round, and nothing was tried.
const WRITES_MIN: usize = 100;

/// Clients at work; dropping them does not end them, [`end`](Self::end) does.
pub struct Clients {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
    apis: Vec<Arc<HttpApi>>,
    watches: Vec<Watch>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Begins with the first round.
    pub fn start(servers: &Servers, seed: u64) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            gate: RwLock::default(),
            round: AtomicU64::new(1),
            values: AtomicU64::new(0),
            registers: Mutex::default(),
            broken: Mutex::default(),
        });
        let apis: Vec<_> = (0..servers.all.len())
            .map(|at| Arc::new(maps::client(servers, at, &[])))
            .collect();
        let listed = runtime.block_on(list(&apis[0])).expect("a list");
        let from = maps::revision(&listed);
        let watches: Vec<_> = (0..WATCHES).map(|_| Watch::new(from)).collect();
        let mut tasks: Vec<_> = (0..CALLERS as u64)
            .map(|number| runtime.spawn(Caller::new(&shared, &apis, seed, number).run()))
            .collect();
        for (first, watch) in watches.iter().enumerate() {
            tasks.push(runtime.spawn(watch.clone().run(shared.clone(), apis.clone(), first)));
        }
        Self {
            shared,
            runtime,
            apis,
            watches,
            tasks,
        }
    }

    /// Fails if a promise was broken.
    pub fn none_broken(&self, seed: u64) {
        let broken = lock(&self.shared.broken).clone();
        assert!(broken.is_empty(), "CORACLE_SEED={seed}: {broken:#?}");
    }

    /// Judges the round, in which nothing is wrong any more, and begins the next one.
    pub fn judge(&mut self, round: u64, seed: u64) {
        let gate = self.runtime.block_on(self.shared.gate.write());
        let end = self.last_write();
        for watch in &self.watches {
            eventually("a watch that has told everything", || match watch.at() {
                at if at >= end => Ok(()),
                at => Err(format!("it has come to {at} and not to {end}")),
            });
        }
        let mut registers = lock(&self.shared.registers);
        for watch in &self.watches {
            self.shared.hold(watch.judge(&registers));
        }
        self.shared.hold(registers.check());
        let (written, read, untold) = (registers.acknowledged(), registers.read(), registers.untold());
        eprintln!("round {round}: {written} writes acknowledged, {read} reads, {untold} calls unanswered");
        for (at, api) in self.apis.iter().enumerate() {
            let listed = self.runtime.block_on(list(api)).expect("a list");
            let same = self.same(&listed, &registers);
            self.shared
                .hold(same.map_err(|why| format!("server {at}: {why}")));
        }
        self.none_broken(seed);
        assert!(written > WRITES_MIN && read > WRITES_MIN, "too little was tried");
        *registers = Registers::default();
        self.shared.round.fetch_add(1, Ordering::Relaxed);
        self.watches.iter().for_each(Watch::forget);
        drop(registers);
        drop(gate);
    }

    /// Makes one more ConfigMap of this round, which all watches will tell of; its revision.
    fn last_write(&self) -> u64 {
        let key = self.shared.key(KEYS);
        let mut caller = Caller::new(&self.shared, &self.apis, 0, 0);
        eventually("a write when all is well", || {
            self.runtime
                .block_on(caller.end(&key))
                .ok_or_else(|| "it was refused".to_owned())
        })
    }

    /// Whether a server shows of this round what was written last.
    fn same(&self, listed: &Value, registers: &Registers) -> Result<(), String> {
        let items = listed["items"].as_array().into_iter().flatten();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut there: Vec<_> = items
            .map(|item| (name(item), shown(item)))
            .filter(|(name, _)| self.shared.is_current(name))
            .collect();
        there.sort();
        let mut latest: Vec<_> = registers.latest().into_iter().collect();
        latest.sort();
        match there == latest {
            true => Ok(()),
            false => Err(format!("it shows {there:?} and not {latest:?}")),
        }
    }

    /// Ends all of them.
    pub fn end(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).expect("a client");
        }
    }
}

async fn list(api: &HttpApi) -> Result<Value, String> {
    let listed = api.call(maps::request(Verb::List, "")).await;
    let body = listed.map_err(|status| format!("{status:?}"))?.body;
    serde_json::from_slice(&body.whole()).map_err(|error| error.to_string())
}
