//! Raft's log on disk: a chain of prefilled, recycled segment files.
//!
//! One append is one write and one sync. Segments whose entries are all in the
//! flushed state are blanked and used again, so that appending never makes the
//! file system allocate or move metadata. File names mean nothing: each
//! segment's header says which one it is. After a failed write or sync the
//! segment is given up (`log/repair.rs`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use raft::eraftpb::{Entry, HardState};

use crate::disk::{Disk, DiskFile, SECTOR_BYTES};
use crate::error::StoreError;
use crate::metrics::Counters;
use crate::segment::{self, HEADER_BYTES, Header, Identity, Place};
use piece::{SUFFIX, file_name, io_error};

mod piece;
mod reading;
mod recovery;
mod repair;
mod spare;
#[cfg(test)]
mod tests;

pub use piece::Segment;
pub use recovery::Recovered;
pub use spare::{SpareMaker, blank};

/// Size of a new log's first segment: small, because opening an empty folder
/// waits until it is prefilled.
const FIRST_SEGMENT_BYTES: u64 = 256 << 10;

/// How many blank segments are kept at most; more are removed from the disk.
const SPARES_MAX: usize = 2;

/// What the next segment has to make good.
struct Repair {
    /// The first number of those given up.
    from: u64,
    /// The last live segment is one of them, and holds what must be repeated.
    repeat_last: bool,
    /// Names of files that were begun in vain, and are to be removed.
    wrecks: Vec<String>,
}

/// The log, open for appending.
pub struct Log {
    disk: Arc<dyn Disk>,
    identity: Identity,
    segment_bytes: u64,
    /// Oldest first; the last one is appended to. Never empty.
    live: VecDeque<Segment>,
    spares: Vec<Segment>,
    /// Makes file names that are not taken.
    names: u64,
    /// The highest number of any segment that was ever begun.
    number: u64,
    /// What must be done before anything else is appended.
    repair: Option<Repair>,
    /// Where the next frame goes in the last segment.
    offset: u64,
    ordinal: u32,
    hard: HardState,
    /// The hard state is newer than what the segments say.
    hard_deferred: bool,
    last_index: u64,
    /// The lowest index in the batch that is being appended.
    lowest: u64,
    /// [`Header::base`].
    base: u64,
    /// [`appended`](Self::appended).
    appended: u64,
    buffer: Vec<u8>,
    counters: Arc<Counters>,
    /// Plants the bug that the simulator must find: no sync before the answer.
    #[cfg(test)]
    pub forget_sync: bool,
    /// Plants another: a sync that failed is asked for once more, and believed.
    #[cfg(test)]
    pub sync_again: bool,
}

impl Log {
    /// Begins a new log in an empty folder.
    pub fn create(disk: Arc<dyn Disk>, identity: Identity, segment_bytes: u64) -> Result<Log, StoreError> {
        let mut log = Log::empty(disk, identity, segment_bytes);
        // Term 1, because term 0 means "no term" in parts of the Raft library.
        log.hard = HardState {
            term: 1,
            ..HardState::default()
        };
        log.clear()?;
        let first = log.new_segment(FIRST_SEGMENT_BYTES.min(segment_bytes))?;
        let header = log.next_header();
        log.begin(first, header, &[])?;
        Ok(log)
    }

    /// Counts in these from now on.
    pub fn count_in(&mut self, counters: Arc<Counters>) {
        self.counters = counters;
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The segments that are left hold everything after this entry.
    pub fn begins_after(&self) -> u64 {
        self.live.front().map_or(0, |segment| segment.before)
    }

    /// [`append_from`](Self::append_from) for a log that goes on.
    #[cfg(test)]
    pub fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        hard: Option<HardState>,
    ) -> Result<(), StoreError> {
        self.append_from(None, entries, hard)
    }

    /// Appends entries and the hard state as one batch; durable when it
    /// returns. With a `base`, the log first begins anew after that index.
    /// After an error nobody knows what of it is on the disk: the next thing
    /// appended must be the same batch, or one that begins with it.
    pub fn append_from<'a>(
        &mut self,
        base: Option<u64>,
        entries: impl Iterator<Item = &'a Entry>,
        hard: Option<HardState>,
    ) -> Result<(), StoreError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let start = segment::begin_frame(&mut buffer);
        if let Some(base) = base {
            (self.base, self.last_index) = (base, base);
            segment::put_base(&mut buffer, base);
            self.forget_old();
        }
        self.lowest = u64::MAX;
        for entry in entries {
            self.last_index = entry.index;
            self.lowest = self.lowest.min(entry.index);
            segment::put_entry(&mut buffer, entry);
        }
        if let Some(hard) = hard {
            self.defer(hard);
        }
        if std::mem::take(&mut self.hard_deferred) {
            segment::put_hard(&mut buffer, &self.hard);
        }
        let done = self.append_frame(&mut buffer, start);
        // It may have been in what was not written.
        self.hard_deferred |= done.is_err();
        // One huge batch must not hold its memory for ever.
        if buffer.capacity() <= 1 << 20 {
            self.buffer = buffer;
        }
        done
    }

    /// Takes a hard state that need not be durable by itself; it is written
    /// with the next batch.
    pub fn defer(&mut self, hard: HardState) {
        self.hard = hard;
        self.hard_deferred = true;
    }

    /// Takes the segments whose entries are all at or before `index` out of the
    /// log. Give each to [`blank`] and then to [`reuse`](Self::reuse).
    pub fn release(&mut self, index: u64) -> Vec<Segment> {
        let mut released = vec![];
        while self.live.len() > 1 && self.live.front().is_some_and(|s| s.last_index <= index) {
            released.extend(self.live.pop_front());
        }
        released
    }

    /// Takes released segments back that could not be blanked.
    pub fn keep(&mut self, released: VecDeque<Segment>) {
        for segment in released.into_iter().rev() {
            self.live.push_front(segment);
        }
    }

    /// Takes a blank segment for later use, or removes it if there are enough.
    pub fn reuse(&mut self, segment: Segment) -> Result<(), StoreError> {
        let wanted = segment.size == self.segment_bytes && self.spares.len() < SPARES_MAX;
        if wanted {
            self.spares.push(Segment { number: 0, ..segment });
            return Ok(());
        }
        self.disk
            .remove(&segment.name)
            .map_err(|e| self.io_error("removing", &segment.name, e))
    }

    /// Bytes found when the log was opened, and appended since: what was found counts too, or a
    /// process that is killed again and again would never find its log large enough to flush the state.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    fn empty(disk: Arc<dyn Disk>, identity: Identity, segment_bytes: u64) -> Log {
        Log {
            disk,
            identity,
            segment_bytes: segment_bytes.next_multiple_of(4096),
            live: VecDeque::new(),
            spares: vec![],
            names: 0,
            number: 0,
            repair: None,
            offset: 0,
            ordinal: 0,
            hard: HardState::default(),
            hard_deferred: false,
            last_index: 0,
            lowest: u64::MAX,
            base: 0,
            appended: 0,
            buffer: vec![],
            counters: Arc::default(),
            #[cfg(test)]
            forget_sync: false,
            #[cfg(test)]
            sync_again: false,
        }
    }

    /// Removes what a creation that did not finish left behind.
    fn clear(&self) -> Result<(), StoreError> {
        let names = self.disk.list().map_err(|e| self.io_error("listing", "", e))?;
        for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
            self.disk
                .remove(name)
                .map_err(|e| self.io_error("removing", name, e))?;
        }
        Ok(())
    }

    fn append_frame(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), StoreError> {
        if self.repair.is_some() {
            return self.append_repeated(buffer, start);
        }
        let size = self.live.back().map_or(0, |segment| segment.size);
        let length = buffer.len().next_multiple_of(8) as u64;
        if self.offset + length > size {
            // The frame's header cannot be sealed before its segment is known.
            let next = self.next_segment(self.wanted(length))?;
            let header = self.next_header();
            return self.begin_with(next, header, buffer, start);
        }
        segment::seal_frame(buffer, start, self.place());
        self.write(buffer)?;
        self.ordinal += 1;
        Ok(())
    }

    /// Begins a segment with a frame, which is not sealed yet.
    fn begin_with(
        &mut self,
        next: Segment,
        header: Header,
        frame: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), StoreError> {
        let place = Place {
            log: self.identity.log,
            segment: header.number,
            ordinal: 0,
        };
        segment::seal_frame(frame, start, place);
        self.begin(next, header, frame)?;
        self.ordinal = 1;
        Ok(())
    }

    /// Puts a blank segment at the end of the chain, with its first frame.
    fn begin(&mut self, mut next: Segment, header: Header, frame: &[u8]) -> Result<(), StoreError> {
        next.take_on(&header);
        next.last_index = header.last_index;
        self.number = header.number;
        let before = (self.offset, self.ordinal);
        (self.offset, self.ordinal) = (0, 0);
        self.live.push_back(next);
        let begun = self.write(&[&header.encode(), frame].concat());
        if begun.is_err() {
            (self.offset, self.ordinal) = before;
            self.scrap_last();
        }
        begun
    }

    /// The header of the segment that comes next.
    fn next_header(&self) -> Header {
        Header {
            identity: self.identity,
            number: self.number + 1,
            last_index: self.live.back().map_or(0, |segment| segment.last_index),
            hard: self.hard.clone(),
            base: self.base,
            repeats: 0,
        }
    }

    /// The size of a segment that shall begin with a frame of `length` bytes.
    fn wanted(&self, length: u64) -> u64 {
        (HEADER_BYTES as u64 + length)
            .max(self.segment_bytes)
            .next_multiple_of(4096)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(segment) = self.live.back() else {
            return Ok(());
        };
        let (file, name) = (segment.file.clone(), segment.name.clone());
        let written = file.write_at(self.offset, bytes);
        let written = written.map_err(|e| self.io_error("writing", &name, e));
        let done = written.and_then(|()| self.sync(&*file).map_err(|e| self.io_error("syncing", &name, e)));
        if let Err(error) = done {
            self.give_up_last();
            return Err(error);
        }
        let before = self.offset;
        self.offset += bytes.len() as u64;
        self.appended += bytes.len() as u64;
        self.counters.log_bytes.inc_by(in_sectors(before, self.offset));
        if let Some(segment) = self.live.back_mut() {
            segment.last_index = segment.last_index.max(self.last_index);
            segment.lowest = segment.lowest.min(self.lowest);
        }
        Ok(())
    }

    fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        #[cfg(test)]
        if self.forget_sync {
            return Ok(());
        }
        #[cfg(test)]
        if self.sync_again {
            return file.sync().or_else(|_| file.sync());
        }
        let began = Instant::now();
        let synced = file.sync();
        self.counters.syncs.observe(began.elapsed().as_secs_f64());
        synced
    }

    fn place(&self) -> Place {
        let segment = self.live.back().map_or(0, |segment| segment.number);
        Place {
            log: self.identity.log,
            segment,
            ordinal: self.ordinal,
        }
    }

    fn next_segment(&mut self, size: u64) -> Result<Segment, StoreError> {
        match self.spares.iter().position(|spare| spare.size >= size) {
            Some(at) => Ok(self.spares.swap_remove(at)),
            None => self.new_segment(size),
        }
    }

    fn new_segment(&mut self, size: u64) -> Result<Segment, StoreError> {
        let maker = self.spare_maker();
        SpareMaker { size, ..maker }.make()
    }

    fn damaged(&self, name: &str, offset: u64, reason: String) -> StoreError {
        StoreError::Damaged {
            file: self.disk.path(name),
            offset,
            reason,
        }
    }

    /// Whether a spare should be made (by [`SpareMaker::make`]) before it is needed.
    pub fn wants_spare(&self) -> bool {
        let size = self.live.back().map_or(0, |segment| segment.size);
        self.spares.is_empty() && self.offset * 2 > size
    }

    /// Reserves a name for a new spare, which can then be prefilled without
    /// holding on to the log.
    pub fn spare_maker(&mut self) -> SpareMaker {
        self.names += 1;
        SpareMaker {
            disk: self.disk.clone(),
            name: file_name(self.names),
            size: self.segment_bytes,
        }
    }

    fn io_error(&self, doing: &str, name: &str, source: io::Error) -> StoreError {
        io_error(&*self.disk, doing, name, source)
    }
}

/// Bytes of the sectors between two offsets: what the disk writes.
fn in_sectors(start: u64, end: u64) -> u64 {
    end.next_multiple_of(SECTOR_BYTES) - start / SECTOR_BYTES * SECTOR_BYTES
}
