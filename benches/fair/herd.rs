//! A hostile client: many connections, each with one request after another and no pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use tokio::runtime::Runtime;

use super::way::{Way, map};
use crate::maps::MAPS;

/// How long a client that was told to come back stays away, as client-go does at the least.
const AWAY: Duration = Duration::from_millis(100);

/// Events that one watch takes at most; more than there will be.
const EVENTS: usize = 50_000;
/// How long the server may take to notice that one has gone.
const AFTER: Duration = Duration::from_secs(2);

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greed {
    /// Lists everything.
    Lists,
    /// Reads one object.
    Reads,
    /// Writes objects.
    Writes,
    /// Sends bodies that are refused.
    Bodies,
    /// Watches, and writes what is watched.
    Watches,
    /// Opens connections, each for one request.
    Connections,
}

impl Greed {
    /// All of them.
    pub const ALL: [Greed; 6] = [
        Greed::Lists,
        Greed::Reads,
        Greed::Writes,
        Greed::Bodies,
        Greed::Watches,
        Greed::Connections,
    ];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Greed::Lists => "lists of 0.6 MB, 300 connections",
            Greed::Reads => "GETs, 300 connections",
            Greed::Writes => "PUTs, 300 connections",
            Greed::Bodies => "bodies of 1 MB that are refused, 50 connections",
            Greed::Watches => "500 watches, 20 connections of PUTs to what they watch",
            Greed::Connections => "a connection for each GET, 50 at once",
        }
    }

    fn connections(self) -> usize {
        match self {
            Greed::Lists | Greed::Reads | Greed::Writes => 300,
            Greed::Bodies | Greed::Connections => 50,
            Greed::Watches => 20,
        }
    }

    fn request(self, number: usize, round: usize) -> (Method, String, String) {
        let object = format!("{MAPS}/map-{}", number % 150);
        let put = || map(&format!("map-{}", number % 150), 4000 + round % 90);
        match self {
            Greed::Lists => (Method::GET, MAPS.to_owned(), String::new()),
            Greed::Reads | Greed::Connections => (Method::GET, object, String::new()),
            Greed::Writes | Greed::Watches => (Method::PUT, object, put()),
            Greed::Bodies => (Method::POST, MAPS.to_owned(), "[".repeat(1 << 20)),
        }
    }
}

/// One at work.
pub struct Herd {
    runtime: Runtime,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Herd {
    /// Sets it to work.
    pub fn start(way: &Arc<Way>, greed: Greed) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .on_thread_start(|| {
                // Refused, it only takes more than it should.
                let _ = sys::process::set_idle();
            })
            .build()?;
        let shared: Arc<Shared> = Arc::default();
        if greed == Greed::Watches {
            runtime.spawn(watches(way.clone()));
        }
        for number in 0..greed.connections() {
            runtime.spawn(work(way.clone(), greed, number, shared.clone()));
        }
        Ok(Self { runtime, shared })
    }

    /// Requests that were answered as they were meant to be, and those that were turned away.
    pub fn answered(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.shared.answered), of(&self.shared.refused))
    }

    /// Ends it, once its connections are gone.
    pub async fn end(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.runtime.shutdown_background();
        tokio::time::sleep(AFTER).await;
    }
}

/// One connection's work. What fails is tried again: hostile clients are stubborn.
async fn work(way: Arc<Way>, greed: Greed, number: usize, shared: Arc<Shared>) {
    let mut wire = None;
    let mut round = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        if wire.is_none() {
            wire = way.wire().await.ok();
        }
        let Some(open) = &wire else {
            tokio::time::sleep(AWAY).await;
            continue;
        };
        round += 1;
        let (method, path, body) = greed.request(number, round);
        match open.try_ask(method, &path, body).await {
            Ok((429, _)) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AWAY).await;
            }
            Ok(_) => {
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => wire = None,
        }
        if greed == Greed::Connections {
            wire = None;
        }
    }
}

/// Watches over one connection, read as fast as they come.
async fn watches(way: Arc<Way>) {
    let Ok(wire) = way.wire().await else { return };
    for _ in 0..500 {
        if let Ok(events) = wire.watch(&format!("{MAPS}?watch=1&resourceVersion=0")).await {
            tokio::spawn(events.take(EVENTS));
        }
    }
    // The connection lives as long as this does.
    std::future::pending::<()>().await;
}
