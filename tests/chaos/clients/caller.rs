//! A client that writes and reads, by way of whichever server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::request::{Request, Verb};
use api::status::Status;
use base::{Random, SeededRandom};
use client::{Api, HttpApi};
use linear::{Told, Wish};
use serde_json::{Value, json};

use super::shared::{KEYS, Shared, lock, shown};
use crate::support::maps;

/// Longest that an answer is waited for; after that nobody knows.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two calls.
const PACE: Duration = Duration::from_millis(8);
/// Most bytes beside the value, so that disks fill up in time.
const FILLER_BYTES_MAX: u64 = 16 << 10;

/// One client.
pub struct Caller {
    shared: Arc<Shared>,
    apis: Vec<Arc<HttpApi>>,
    random: SeededRandom,
    /// Value and revision as last heard.
    known: HashMap<String, (u64, u64)>,
}

/// What was heard of a ConfigMap.
type Heard = Option<(u64, u64)>;

impl Caller {
    /// A client with a number of its own.
    pub fn new(shared: &Arc<Shared>, apis: &[Arc<HttpApi>], seed: u64, number: u64) -> Self {
        Self {
            shared: shared.clone(),
            apis: apis.to_vec(),
            random: SeededRandom::new(seed.wrapping_mul(31).wrapping_add(number)),
            known: HashMap::new(),
        }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        let shared = self.shared.clone();
        while !shared.stop.load(Ordering::Relaxed) {
            let gate = shared.gate.read().await;
            let key = shared.key(self.random.below(KEYS));
            match self.random.below(10) {
                0..4 => drop(self.read(&key).await),
                4..6 => drop(self.write(&key).await),
                _ => self.exchange(&key).await,
            }
            drop(gate);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Makes sure that a ConfigMap is there; its revision.
    pub async fn end(&mut self, key: &str) -> Option<u64> {
        self.write(key).await;
        self.read(key).await.map(|(_, revision)| revision)
    }

    async fn read(&mut self, key: &str) -> Heard {
        self.call(key, Wish::Get, maps::request(Verb::Get, key)).await
    }

    /// Writes, whatever is there by now.
    async fn write(&mut self, key: &str) -> Heard {
        let value = self.shared.value();
        match self.known.contains_key(key) {
            true => {
                let request = self.putting(Verb::Update, key, value, "");
                self.call(key, Wish::Put(value), request).await
            }
            false => {
                let request = self.putting(Verb::Create, key, value, "");
                self.call(key, Wish::Create(value), request).await
            }
        }
    }

    /// Reads, and writes if nobody else has in between.
    async fn exchange(&mut self, key: &str) {
        let Some((before, revision)) = self.read(key).await else {
            self.write(key).await;
            return;
        };
        let value = self.shared.value();
        let request = self.putting(Verb::Update, key, value, &revision.to_string());
        self.call(key, Wish::Swap(before, value), request).await;
    }

    fn putting(&self, verb: Verb, key: &str, value: u64, revision: &str) -> Request {
        let mut metadata = json!({"name": key});
        if !revision.is_empty() {
            metadata["resourceVersion"] = revision.into();
        }
        let filler = "x".repeat(self.random.below(FILLER_BYTES_MAX) as usize);
        let body = json!({"metadata": metadata, "data": {"v": value.to_string(), "filler": filler}});
        let name = if verb == Verb::Create { "" } else { key };
        let mut request = maps::request(verb, name);
        request.body = body.to_string().into();
        request
    }

    /// Asks any server once, and writes down what was asked and told.
    async fn call(&mut self, key: &str, wish: Wish, request: Request) -> Heard {
        let api = &self.apis[self.random.below(self.apis.len() as u64) as usize];
        let number = lock(&self.shared.registers).ask(key, wish, self.shared.now());
        let answer = tokio::time::timeout(PATIENCE, api.call(request)).await;
        let now = self.shared.now();
        let (told, heard) = match answer.unwrap_or_else(|_| Err(Status::timeout("no answer"))) {
            Ok(reply) => {
                let object: Value = serde_json::from_slice(&reply.body.whole()).expect("an object");
                let (value, revision) = shown(&object);
                self.known.insert(key.to_owned(), (value, revision));
                let told = match wish {
                    Wish::Get => Told::Read(Some(value)),
                    _ => Told::Done(Some(revision)),
                };
                (Some(told), Some((value, revision)))
            }
            Err(status) => (self.refusal(key, wish, &status), None),
        };
        if let Some(told) = told {
            let fits = lock(&self.shared.registers).tell(number, told, now);
            self.shared.hold(fits);
        }
        heard
    }

    /// What a refusal tells; `None` if nobody knows whether anything was done.
    fn refusal(&self, key: &str, wish: Wish, status: &Status) -> Option<Told> {
        match (status.code, wish) {
            (404, Wish::Get) => Some(Told::Read(None)),
            (409, Wish::Create(_) | Wish::Swap(..)) => Some(Told::NotDone),
            (409 | 429 | 500.., _) => None,
            _ => {
                self.shared
                    .hold(Err(format!("{wish:?} of {key} was refused: {status:?}")));
                None
            }
        }
    }
}
