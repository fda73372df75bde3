//! What the store does by itself: it deletes entries whose time has come, and compacts history.

use std::time::Duration;

use super::Core;
use crate::command::{Body, NOBODY};
use crate::error::StoreError;

/// How many entries one command expires at most.
const EXPIRE_MAX: usize = 1000;

impl Core {
    /// Proposes what the store does by itself: deleting entries whose time has
    /// come and compacting. `now_ms` is wall-clock time since the Unix epoch.
    pub fn chores(&mut self, now_ms: u64, monotonic: Duration) -> Result<(), StoreError> {
        self.announce(now_ms);
        if self.habits.witness || !self.member.settled() || self.suspended.is_some() {
            return Ok(());
        }
        self.tell_witness(now_ms);
        let mut bodies = vec![];
        if !self.expiring {
            let expired = self.state.expired(now_ms, EXPIRE_MAX)?;
            if !expired.is_empty() {
                bodies.push(Body::Expire(expired));
            }
        }
        bodies.extend(self.due_compaction(monotonic).map(Body::Compact));
        for body in bodies {
            let expires = matches!(body, Body::Expire(_));
            let command = self.command(NOBODY, now_ms, body);
            let proposed = self.member.propose(vec![command]);
            self.expiring |= expires && proposed.is_ok();
        }
        Ok(())
    }

    fn due_compaction(&mut self, monotonic: Duration) -> Option<u64> {
        let keep = self.habits.keep_history?;
        if monotonic.saturating_sub(self.mark.0) < keep {
            return None;
        }
        let (_, old) = std::mem::replace(&mut self.mark, (monotonic, self.meta.revision));
        (old > self.meta.compacted).then_some(old)
    }
}
