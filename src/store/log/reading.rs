//! Reading entries back from a log that is in use. Only a witness does: it
//! keeps next to nothing in memory, and hands over what another one lacks.

use std::sync::{Mutex, PoisonError};

use raft::eraftpb::Entry;

use super::Log;
use super::piece::Segment;
use super::recovery::read_all;
use crate::error::StoreError;
use crate::segment::{self, HEADER_BYTES};
use crate::tail::Archive;

impl Log {
    /// The entries of the log around `index`, as many as lie together on the disk, without gaps;
    /// `None` if that one is not there (any more).
    pub fn around(&self, index: u64) -> Result<Option<Vec<Entry>>, StoreError> {
        // The first that reaches so far has it: indices grow but where what follows is replaced.
        let Some(first) = self.live.iter().position(|segment| segment.last_index >= index) else {
            return Ok(None);
        };
        let Some(segment) = self.live.get(first).filter(|_| index >= self.oldest()) else {
            return Ok(None);
        };
        let (low, high) = (segment.before.max(self.base) + 1, segment.last_index);
        let mut found = vec![];
        for segment in self.live.range(first..).filter(|segment| segment.lowest <= high) {
            self.collect(segment, low..=high, &mut found)?;
        }
        let there = index.checked_sub(low).is_some_and(|at| at < found.len() as u64);
        Ok(there.then_some(found))
    }

    /// The lowest index of which the log certainly has the entry, if it has any.
    pub fn oldest(&self) -> u64 {
        self.live
            .front()
            .map_or(0, |segment| segment.before)
            .max(self.base)
            + 1
    }

    /// Takes what a segment has of a range; an entry replaces its predecessor and all after it.
    fn collect(
        &self,
        segment: &Segment,
        range: std::ops::RangeInclusive<u64>,
        found: &mut Vec<Entry>,
    ) -> Result<(), StoreError> {
        let bytes = read_all(segment).map_err(|e| self.io_error("reading", &segment.name, e))?;
        let (mut offset, mut ordinal) = (HEADER_BYTES, 0);
        while let Some((place, body, next)) = segment::frame_at(&bytes, offset, self.identity.log) {
            if (place.segment, place.ordinal) != (segment.number, ordinal) {
                break;
            }
            let batch = segment::decode_body(body)
                .map_err(|e| self.damaged(&segment.name, offset as u64, e.0.to_owned()))?;
            for entry in batch.entries {
                let at = entry.index.saturating_sub(*range.start());
                found.truncate(usize::try_from(at).unwrap_or(usize::MAX));
                if range.contains(&entry.index) && at == found.len() as u64 {
                    found.push(entry);
                }
            }
            (offset, ordinal) = (next, ordinal + 1);
        }
        Ok(())
    }
}

impl Archive for Mutex<Log> {
    fn around(&self, index: u64) -> Option<Vec<Entry>> {
        let log = self.lock().unwrap_or_else(PoisonError::into_inner);
        log.around(index).unwrap_or_else(|error| {
            tracing::warn!(%error, index, "the log cannot be read back");
            None
        })
    }

    fn oldest(&self) -> u64 {
        self.lock().unwrap_or_else(PoisonError::into_inner).oldest()
    }
}
