//! Those who watch a simulated machine now and then, and look into its past: they must get every event once, in order.

use base::Random;

use super::World;
use crate::error::StoreError;
use crate::simulator::history::History;
use crate::types::ListQuery;
use crate::watch::Watch;

const PREFIXES: [&str; 4] = ["", "/g/a/", "/g/b/x", "/g/"];

/// A watch that is polled now and then.
pub(super) struct Lazy {
    watch: Watch,
    prefix: &'static str,
    /// Where it began, or the last event that it saw.
    last: u64,
}

impl World {
    /// Opens, polls and closes lazy watches.
    pub(super) fn poll_watches(&mut self) -> Result<(), String> {
        let prefix = PREFIXES[self.random.below(4) as usize];
        let count = self.random.below(20);
        let oldest = self.process().cache.position().compacted;
        let last = oldest + self.random.below(self.history.revision() - oldest + 3);
        let process = self.process.as_mut().ok_or("no process")?;
        for lazy in &mut process.watches {
            lazy.poll(&self.history, count)?;
        }
        process.watches.retain(|lazy| lazy.last != u64::MAX);
        if process.watches.len() < 6 {
            let watch = Watch::new(process.cache.clone(), process.old.clone(), prefix, last);
            let watch = watch.map_err(|error| format!("cannot watch from {last}: {error}"))?;
            process.watches.push(Lazy { watch, prefix, last });
        }
        Ok(())
    }

    /// Lists the past.
    pub(super) fn look_back(&mut self) -> Result<(), String> {
        let position = self.process().cache.position();
        let revision = position.compacted + self.random.below(position.revision - position.compacted + 1);
        let prefix = PREFIXES[self.random.below(4) as usize];
        let query = ListQuery::prefix(prefix);
        let process = self.process();
        let listed = match process.cache.list_unchanged(&query, revision) {
            Some(listing) => listing.entries,
            None => {
                process
                    .old
                    .list_at(&query, revision)
                    .map_err(|error| error.to_string())?
                    .entries
            }
        };
        let mut expected = self.history.entries_at(revision);
        expected.retain(|entry| entry.key.starts_with(prefix));
        if listed == expected {
            Ok(())
        } else {
            Err(format!("the listing at {revision} is wrong"))
        }
    }
}

impl Lazy {
    fn poll(&mut self, history: &History, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let Some(event) = self.watch.try_next() else {
                let until = self.watch.progress();
                return match history.events(self.prefix, self.last, until).is_empty() {
                    true => Ok(()),
                    false => Err(format!("a watch missed events before {until}")),
                };
            };
            match event {
                Ok(event) => {
                    let expected = history.events(self.prefix, self.last, event.revision);
                    if expected != std::slice::from_ref(&event) {
                        return Err(format!(
                            "a watch got event {} after {}",
                            event.revision, self.last
                        ));
                    }
                    self.last = event.revision;
                }
                Err(StoreError::Compacted { oldest }) if self.watch.progress() < oldest => {
                    self.last = u64::MAX;
                    return Ok(());
                }
                Err(error) => return Err(format!("a watch failed: {error}")),
            }
        }
        Ok(())
    }
}
