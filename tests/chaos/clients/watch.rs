//! A watch that goes on at another server when it breaks off.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::request::{EventKind, EventStream, Options, Verb, WatchEvent};
use api::status::Status;
use client::{Api, HttpApi};
use futures_util::StreamExt;
use linear::Registers;
use serde_json::Value;

use super::shared::{Shared, lock, shown};
use crate::support::maps;

/// A watch that tells nothing for so long goes on elsewhere: its server may be gone without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// What one watch has told.
#[derive(Clone)]
pub struct Watch {
    heard: Arc<Mutex<Heard>>,
}

struct Heard {
    /// It has told everything up to this revision.
    at: u64,
    /// Of this round: name and value by revision.
    told: BTreeMap<u64, (String, u64)>,
}

impl Watch {
    /// A watch of what comes after a revision.
    pub fn new(from: u64) -> Self {
        let told = BTreeMap::new();
        let heard = Heard { at: from, told };
        Self {
            heard: Arc::new(Mutex::new(heard)),
        }
    }

    /// Up to where it has told everything.
    pub fn at(&self) -> u64 {
        lock(&self.heard).at
    }

    /// Forgets what it has told, for another round.
    pub fn forget(&self) {
        lock(&self.heard).told.clear();
    }

    /// Whether it has told of everything that any watch has told of.
    pub fn judge(&self, registers: &Registers) -> Result<(), String> {
        let heard = lock(&self.heard);
        let missed = registers
            .seen()
            .find(|revision| !heard.told.contains_key(revision));
        match missed {
            None => Ok(()),
            Some(revision) => Err(format!("a watch at {} never told of {revision}", heard.at)),
        }
    }

    /// Follows until it is told to stop.
    pub async fn run(self, shared: Arc<Shared>, apis: Vec<Arc<HttpApi>>, first: usize) {
        for server in first.. {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let mut request = maps::request(Verb::Watch, "");
            request.options = Options {
                resource_version: Some(self.at().to_string()),
                allow_watch_bookmarks: true,
                ..Options::default()
            };
            let opened = tokio::time::timeout(SILENCE, apis[server % apis.len()].watch(request)).await;
            match opened {
                Ok(Ok(events)) => self.follow(&shared, events).await,
                Ok(Err(Status {
                    code: 410, message, ..
                })) => shared.hold(Err(format!("a watch got {message}"))),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn follow(&self, shared: &Shared, mut events: EventStream) {
        while !shared.stop.load(Ordering::Relaxed) {
            match tokio::time::timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(event))) => shared.hold(self.take(shared, &event)),
                Ok(Some(Err(Status {
                    code: ..500, message, ..
                }))) => {
                    shared.hold(Err(format!("a watch broke: {message}")));
                    return;
                }
                Err(_) | Ok(None | Some(Err(_))) => return,
            }
        }
    }

    fn take(&self, shared: &Shared, event: &WatchEvent) -> Result<(), String> {
        let object: Value = serde_json::from_slice(&event.object).expect("an object");
        let (value, revision) = shown(&object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let mut heard = lock(&self.heard);
        let bookmark = event.kind == EventKind::Bookmark;
        if revision < heard.at || (revision == heard.at && !bookmark) {
            let at = heard.at;
            return Err(format!(
                "a watch tells {revision} after {at}: {:?} {name}",
                event.kind
            ));
        }
        heard.at = revision;
        if bookmark || !shared.is_current(name) {
            return Ok(());
        }
        let known = heard.told.values().any(|(told, _)| told == name);
        heard.told.insert(revision, (name.to_owned(), value));
        let expected = if known {
            EventKind::Modified
        } else {
            EventKind::Added
        };
        if event.kind != expected {
            return Err(format!("a watch tells {:?} of {name} at {revision}", event.kind));
        }
        lock(&shared.registers).see(revision, name, Some(value), shared.now())
    }
}
