//! How far fair queueing has come in a level: what Kubernetes shows of it (`current_r`, `dispatch_r`, `latest_s`, and
//! the bounds of `S`).

use super::{Dispatch, GUESS_SECONDS, Queue, Queues};

impl<W> Queues<W> {
    /// The virtual time, and where the queues stood when a request was given its seats last.
    pub fn progress(&self) -> (f64, Dispatch) {
        (self.virtual_now, self.dispatch)
    }

    /// The one whose turn it is, and for whom there is no room.
    pub fn held_up(&self) -> Option<&W> {
        if self.waiting == 0 {
            return None;
        }
        let first = self.active.get(&self.turn()?)?.waiting.front()?;
        (!self.fits(first.width)).then_some(&first.who)
    }

    /// Writes down where the queues stand before the next request of that queue goes.
    pub(super) fn note_dispatch(&mut self, index: usize) {
        let mut all = Dispatch {
            now: self.virtual_now,
            start: self.active.get(&index).map_or(self.virtual_now, next_start),
            starts: (f64::INFINITY, f64::NEG_INFINITY),
            discounted: (f64::INFINITY, f64::NEG_INFINITY),
        };
        for (at, queue) in &self.active {
            if *at == index || !queue.waiting.is_empty() {
                let start = next_start(queue);
                all.starts = wider(all.starts, start);
                all.discounted = wider(all.discounted, start - GUESS_SECONDS * queue.seats as f64);
            }
        }
        self.dispatch = all;
    }
}

/// The virtual time at which the next request of a queue begins.
fn next_start<W>(queue: &Queue<W>) -> f64 {
    let came = queue.waiting.front().map(|first| first.came);
    came.map_or(queue.start, |came| queue.start.max(came))
}

fn wider((least, greatest): (f64, f64), by: f64) -> (f64, f64) {
    (least.min(by), greatest.max(by))
}
