//! A watch that outlives the server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use super::Cluster;

/// What a watch told: names by revision.
pub type Told = BTreeMap<u64, String>;

/// A watch that is begun again where it broke off.
pub struct Watcher {
    /// The path of what is watched, with its query but for the revision.
    path: String,
    told: Arc<Mutex<Told>>,
    child: Option<Child>,
    pump: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    /// A watch of `path`, a query included, that has not begun yet.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            told: Arc::default(),
            child: None,
            pump: None,
        }
    }

    /// Everything that it told so far.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no holder panics")
    }

    /// Follows from where the last one ended, at first from `start`; `broken` hears of every event that
    /// breaks a watch's promises.
    pub fn resume(
        &mut self,
        cluster: &Cluster,
        start: u64,
        broken: impl Fn(Result<(), String>) + Send + 'static,
    ) {
        self.end();
        let last = self
            .told()
            .last_key_value()
            .map_or(start, |(revision, _)| *revision);
        let mut child = cluster.stream(&format!("{}&watch=1&resourceVersion={last}", self.path));
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let told = self.told.clone();
        self.pump = Some(std::thread::spawn(move || {
            // The last line may be cut off by the crash: it is told again.
            let events = lines
                .map_while(Result::ok)
                .map_while(|line| serde_json::from_str::<Value>(&line).ok());
            events.for_each(|event| broken(note(&mut told.lock().expect("no holder panics"), &event)));
        }));
        self.child = Some(child);
    }

    /// Ends the watch, if it has not ended with the server.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended by itself if the server has.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pump) = self.pump.take() {
            pump.join().expect("the watch's reader");
        }
    }
}

/// Notes an event; revisions must rise.
fn note(told: &mut Told, event: &Value) -> Result<(), String> {
    if event["type"] == "ERROR" {
        return Err(format!("the watch broke: {event}"));
    }
    let meta = &event["object"]["metadata"];
    let revision = meta["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let name = meta["name"].as_str().unwrap_or_default().to_owned();
    match told.last_key_value() {
        Some((last, _)) if *last >= revision => {
            Err(format!("the watch tells {revision} after {last}: {event}"))
        }
        _ => {
            told.insert(revision, name);
            Ok(())
        }
    }
}
