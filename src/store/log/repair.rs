//! Going on after a failed write or sync.
//!
//! After a failed sync the kernel may call pages clean that never reached the
//! disk; a second sync of the same file would succeed and mean nothing. So the
//! segment is given up: nothing is written to it any more. What was synced in it
//! is read back and written once more, together with the batch that failed and
//! as one batch, to a fresh segment, whose own sync vouches for all of it. It is
//! written again although it was synced, because a failed write may have hurt
//! what shares a sector with it.
//!
//! ```text
//! 7: synced synced FAILED        8: begun, FAILED (removed)        9, repeats 7: [synced synced batch]
//! ```
//! Segments that are given up keep their place in the chain until the state is
//! flushed beyond them; recovery passes over them.

use bytes::Bytes;

use super::piece::io_error;
use super::recovery::read_all;
use super::{Log, Repair};
use crate::error::StoreError;
use crate::segment::{self, FRAME_HEADER_BYTES, HEADER_BYTES, Header};

impl Log {
    /// The segment that was being written to is not to be trusted any more.
    pub(super) fn give_up_last(&mut self) {
        let first = self.live.back().map_or(0, |segment| segment.first);
        // During a repair it is the attempt that has failed, not what it repeats.
        self.repair.get_or_insert(Repair {
            from: first,
            repeat_last: true,
            wrecks: vec![],
        });
    }

    /// Takes a segment back that could not even be begun: nothing of it counts.
    pub(super) fn scrap_last(&mut self) {
        let (Some(segment), Some(repair)) = (self.live.pop_back(), &mut self.repair) else {
            return;
        };
        if repair.from == segment.number {
            repair.repeat_last = false;
        }
        repair.wrecks.push(segment.name);
    }

    /// The log begins anew: what was in it need not be repeated.
    pub(super) fn forget_old(&mut self) {
        if let Some(repair) = &mut self.repair {
            repair.repeat_last = false;
        }
    }

    /// Writes what was given up, and behind it the batch in `buffer`, to a fresh segment.
    pub(super) fn append_repeated(&mut self, buffer: &[u8], start: usize) -> Result<(), StoreError> {
        self.remove_wrecks()?;
        let Some(Repair {
            from, repeat_last, ..
        }) = self.repair
        else {
            return Ok(());
        };
        let mut frame = vec![];
        let begin = segment::begin_frame(&mut frame);
        let mut header = Header {
            repeats: from,
            ..self.next_header()
        };
        if repeat_last {
            header.last_index = self.live.back().map_or(0, |segment| segment.before);
            for body in self.sound_bodies()? {
                frame.extend_from_slice(&body);
            }
        }
        frame.extend_from_slice(buffer.get(start + FRAME_HEADER_BYTES..).unwrap_or_default());
        let next = self.next_segment(self.wanted(frame.len().next_multiple_of(8) as u64))?;
        self.begin_with(next, header, &mut frame, begin)?;
        self.repair = None;
        Ok(())
    }

    fn remove_wrecks(&mut self) -> Result<(), StoreError> {
        let Some(repair) = &mut self.repair else {
            return Ok(());
        };
        while let Some(name) = repair.wrecks.last() {
            match self.disk.remove(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error(&*self.disk, "removing", name, error));
                }
                _ => repair.wrecks.pop(),
            };
        }
        Ok(())
    }

    /// What was synced in the last segment, batch by batch, from where the log last began anew.
    fn sound_bodies(&self) -> Result<Vec<Bytes>, StoreError> {
        let Some(segment) = self.live.back() else {
            return Ok(vec![]);
        };
        let bytes = read_all(segment).map_err(|e| self.io_error("reading", &segment.name, e))?;
        let (mut bodies, mut offset) = (vec![], HEADER_BYTES);
        while (offset as u64) < self.offset {
            let Some((_, body, next)) = segment::frame_at(&bytes, offset, self.identity.log) else {
                let reason = "a batch that was synced cannot be read back".to_owned();
                return Err(self.damaged(&segment.name, offset as u64, reason));
            };
            let batch = segment::decode_body(body.clone())
                .map_err(|e| self.damaged(&segment.name, offset as u64, e.0.to_owned()))?;
            if batch.base.is_some() {
                bodies.clear();
            }
            bodies.push(body);
            offset = next;
        }
        Ok(bodies)
    }
}
