//! What clients see: watches that move from member to member, and listings of the past.

use base::Random;

use super::{Follower, PREFIXES, World, text};
use crate::error::StoreError;
use crate::types::ListQuery;
use crate::watch::Watch;

impl World {
    /// Opens, polls and moves watches.
    pub(super) fn follow(&mut self) -> Result<(), String> {
        let Some(at) = self.serving() else { return Ok(()) };
        for follower in 0..self.followers.len() {
            self.poll(follower, at)?;
        }
        if self.followers.len() < 4
            && let Some(process) = &self.machines[at].process
        {
            let (oldest, latest) = (
                process.cache.position().compacted,
                process.cache.position().revision,
            );
            let last = oldest + self.random.below(latest - oldest + 3);
            let prefix = PREFIXES[self.random.below(3) as usize];
            let watch = Watch::new(process.cache.clone(), process.old.clone(), prefix, last).map_err(text)?;
            self.followers.push(Follower {
                at: Some(at),
                watch,
                prefix,
                last,
            });
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, which: usize, elsewhere: usize) -> Result<(), String> {
        let moved = self.random.below(6) == 0 || self.followers[which].at.is_none();
        let follower = &mut self.followers[which];
        if moved && let Some(process) = &self.machines[elsewhere].process {
            match Watch::new(
                process.cache.clone(),
                process.old.clone(),
                follower.prefix,
                follower.last,
            ) {
                Ok(watch) => (follower.watch, follower.at) = (watch, Some(elsewhere)),
                Err(StoreError::Compacted { oldest }) => {
                    follower.last = oldest;
                    return Ok(());
                }
                Err(error) => return Err(text(error)),
            }
        }
        for _ in 0..self.random.below(20) {
            match follower.watch.try_next() {
                Some(Ok(event)) => {
                    let expected = self
                        .clients
                        .next_event(follower.prefix, follower.last, event.revision);
                    if expected != Some(&event) {
                        return Err(format!(
                            "a watch got event {} after {}",
                            event.revision, follower.last
                        ));
                    }
                    follower.last = event.revision;
                    self.stats.followed += 1;
                }
                Some(Err(StoreError::Compacted { oldest })) => {
                    (follower.last, follower.at) = (follower.last.max(oldest), None);
                    break;
                }
                Some(Err(error)) => {
                    // It goes on elsewhere.
                    let at = std::mem::take(&mut follower.at);
                    return match at {
                        Some(at) => self.complain(at, error),
                        None => Err(format!("a watch of nobody failed: {error}")),
                    };
                }
                None => {
                    let until = follower.watch.progress();
                    if !self.clients.is_whole(until) {
                        return Err(format!("a watch ends at {until}, in the middle of a commit"));
                    }
                    return match self.clients.next_event(follower.prefix, follower.last, until) {
                        None => Ok(()),
                        Some(missed) => {
                            Err(format!("a watch missed event {} before {until}", missed.revision))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    pub(super) fn follow_all(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            self.follow()?;
        }
        Ok(())
    }

    /// Lists the past, whole or in pages.
    pub(super) fn look_back(&mut self) -> Result<(), String> {
        let Some(at) = self.serving() else { return Ok(()) };
        let Some(process) = &self.machines[at].process else {
            return Ok(());
        };
        let position = process.cache.position();
        let revision = position.compacted + self.random.below(position.revision - position.compacted + 1);
        let mut query = ListQuery::prefix(PREFIXES[self.random.below(3) as usize]);
        query.limit = self.random.below(3) as usize;
        let mut listed = vec![];
        loop {
            let page = match process.cache.list_unchanged(&query, revision) {
                Some(page) => page,
                None => match process.old.list_at(&query, revision) {
                    Ok(page) => page,
                    Err(error) => return self.complain(at, error),
                },
            };
            query.after = page.entries.last().map(|entry| entry.key.clone());
            listed.extend(page.entries);
            if !page.more {
                break;
            }
        }
        let mut expected = self.clients.entries_at(revision);
        expected.retain(|entry| entry.key.starts_with(&query.prefix));
        self.stats.looked += 1;
        match listed == expected {
            true => Ok(()),
            false => Err(format!("the listing at {revision} is wrong")),
        }
    }
}
