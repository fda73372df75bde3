//! Raft's log on disk: a chain of prefilled, recycled segment files.
//!
//! One append is one write and one sync. Segments whose entries are all in the
//! flushed state are blanked and used again, so that appending never makes the
//! file system allocate or move metadata. File names mean nothing: each
//! segment's header says which one it is.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState};

use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::segment::{self, Batch, HEADER_BYTES, Header, Identity, Place, Start};

/// Size of a new log's first segment: small, because opening an empty folder
/// waits until it is prefilled.
const FIRST_SEGMENT_BYTES: u64 = 256 << 10;

/// What segment files' names end with.
const SUFFIX: &str = ".log";

/// How many blank segments are kept at most; more are removed from the disk.
const SPARES_MAX: usize = 2;

/// One segment file.
pub struct Segment {
    name: String,
    file: Arc<dyn DiskFile>,
    size: u64,
    /// From the header; 0 in a spare.
    number: u64,
    /// The highest index of any entry in this segment or before it.
    last_index: u64,
}

/// What was in the log when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The hard state written last.
    pub hard: HardState,
    /// All entries after the index asked for, without gaps.
    pub entries: Vec<Entry>,
    /// Index of the last entry ever appended, whether asked for or not.
    pub last_index: u64,
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
    /// Where the next frame goes in the last segment.
    offset: u64,
    ordinal: u32,
    hard: HardState,
    /// The hard state is newer than what the segments say.
    hard_deferred: bool,
    last_index: u64,
    /// Bytes appended since the log was opened.
    appended: u64,
    buffer: Vec<u8>,
    /// Plants the bug that the simulator must find: no sync before the answer.
    #[cfg(test)]
    pub forget_sync: bool,
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
        log.begin(first, &[])?;
        Ok(log)
    }

    /// Opens the log in a folder; `None` if there is none. Entries up to
    /// `applied` are checked but not returned.
    pub fn open(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        applied: u64,
    ) -> Result<Option<(Log, Recovered)>, StoreError> {
        let (found, spares, broken) = survey(&*disk)?;
        let Some((first, _)) = found.first() else {
            return no_segment(&*disk, &broken).map(|()| None);
        };
        let mut log = Log::empty(disk, first.identity, segment_bytes);
        log.names = spares
            .iter()
            .chain(found.iter().map(|(_, s)| s))
            .chain(&broken)
            .map(name_number)
            .max()
            .unwrap_or(0);
        let mut recovered = Recovered {
            hard: first.hard.clone(),
            last_index: first.last_index,
            ..Recovered::default()
        };
        log.replay(found, applied, &mut recovered)?;
        log.check_broken(&broken)?;
        // What was read may still be in the page cache only (the process was
        // killed, not the machine): make it durable before building upon it.
        for segment in &log.live {
            segment
                .file
                .sync()
                .map_err(|e| log.io_error("syncing", &segment.name, e))?;
        }
        for segment in spares.into_iter().chain(broken) {
            log.reuse(segment)?;
        }
        Ok(Some((log, recovered)))
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Appends entries and the hard state as one batch; durable when it
    /// returns. After an error the log must not be used any more.
    pub fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        hard: Option<HardState>,
    ) -> Result<(), StoreError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let start = segment::begin_frame(&mut buffer);
        for entry in entries {
            self.last_index = entry.index;
            segment::put_entry(&mut buffer, entry);
        }
        if let Some(hard) = hard {
            self.defer(hard);
        }
        if std::mem::take(&mut self.hard_deferred) {
            segment::put_hard(&mut buffer, &self.hard);
        }
        let done = self.append_frame(&mut buffer, start);
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

    /// Bytes appended since the log was opened.
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
            offset: 0,
            ordinal: 0,
            hard: HardState::default(),
            hard_deferred: false,
            last_index: 0,
            appended: 0,
            buffer: vec![],
            #[cfg(test)]
            forget_sync: false,
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
        let size = self.live.back().map_or(0, |segment| segment.size);
        let length = buffer.len().next_multiple_of(8) as u64;
        self.appended += length;
        if self.offset + length > size {
            // The frame's header cannot be sealed before its segment is known.
            let wanted = (HEADER_BYTES as u64 + length)
                .max(self.segment_bytes)
                .next_multiple_of(4096);
            let next = self.next_segment(wanted)?;
            return self.begin_with(next, buffer, start);
        }
        segment::seal_frame(buffer, start, self.place());
        self.ordinal += 1;
        self.write(buffer)
    }

    fn begin_with(&mut self, next: Segment, buffer: &mut Vec<u8>, start: usize) -> Result<(), StoreError> {
        let number = self.live.back().map_or(0, |segment| segment.number) + 1;
        segment::seal_frame(
            buffer,
            start,
            Place {
                log: self.identity.log,
                segment: number,
                ordinal: 0,
            },
        );
        self.ordinal = 1;
        self.begin(next, buffer)
    }

    /// Puts a blank segment at the end of the chain, with its first frame.
    fn begin(&mut self, mut next: Segment, frame: &[u8]) -> Result<(), StoreError> {
        next.number = self.live.back().map_or(0, |segment| segment.number) + 1;
        let header = Header {
            identity: self.identity,
            number: next.number,
            last_index: self.live.back().map_or(0, |segment| segment.last_index),
            hard: self.hard.clone(),
        };
        self.live.push_back(next);
        self.offset = 0;
        self.write(&[&header.encode(), frame].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(segment) = self.live.back_mut() else {
            return Ok(());
        };
        let written = segment.file.write_at(self.offset, bytes);
        segment.last_index = segment.last_index.max(self.last_index);
        self.offset += bytes.len() as u64;
        let name = segment.name.clone();
        written.map_err(|e| self.io_error("writing", &name, e))?;
        self.sync_last().map_err(|e| self.io_error("syncing", &name, e))
    }

    fn sync_last(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.forget_sync {
            return Ok(());
        }
        self.live.back().map_or(Ok(()), |segment| segment.file.sync())
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

    fn replay(
        &mut self,
        found: Vec<(Header, Segment)>,
        applied: u64,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        for (header, mut segment) in found {
            self.check_chain(&header, &segment)?;
            let bytes = read_all(&segment).map_err(|e| self.io_error("reading", &segment.name, e))?;
            recovered.hard = header.hard.clone();
            (self.offset, self.ordinal) = (HEADER_BYTES as u64, 0);
            while let Some((place, body, next)) =
                segment::frame_at(&bytes, self.offset as usize, self.identity.log)
            {
                if (place.segment, place.ordinal) != (header.number, self.ordinal) {
                    break;
                }
                let batch = segment::decode_body(body)
                    .map_err(|e| self.damaged(&segment.name, self.offset, e.0.to_owned()))?;
                recovered
                    .take(batch, applied)
                    .map_err(|e| self.damaged(&segment.name, self.offset, e))?;
                (self.offset, self.ordinal) = (next as u64, self.ordinal + 1);
            }
            self.check_tail(&header, &segment, &bytes)?;
            segment.last_index = header.last_index.max(recovered.last_index);
            self.live.push_back(segment);
        }
        (self.hard, self.last_index) = (recovered.hard.clone(), recovered.last_index);
        Ok(())
    }

    fn check_chain(&self, header: &Header, segment: &Segment) -> Result<(), StoreError> {
        if header.identity != self.identity {
            return Err(StoreError::Format {
                what: self.disk.path(&segment.name).display().to_string(),
                reason: "it belongs to another log".into(),
            });
        }
        match self.live.back() {
            Some(before) if before.number + 1 != header.number => {
                let reason = format!("segment {} before it is missing", header.number - 1);
                Err(self.damaged(&segment.name, 0, reason))
            }
            _ => Ok(()),
        }
    }

    /// An invalid frame is a torn last write unless something valid follows it.
    fn check_tail(&self, header: &Header, segment: &Segment, bytes: &Bytes) -> Result<(), StoreError> {
        let later = |place: Place| place.segment == header.number && place.ordinal > self.ordinal;
        match segment::find_frame(bytes, self.offset as usize, self.identity.log, later) {
            None => Ok(()),
            Some(at) => {
                let reason = format!("a batch is unreadable, but one at offset {at} follows it");
                Err(self.damaged(&segment.name, self.offset, reason))
            }
        }
    }

    /// A file with an unreadable header is a torn first write unless it holds
    /// more than a first batch of a segment that the chain lacks.
    fn check_broken(&self, broken: &[Segment]) -> Result<(), StoreError> {
        let last = self.live.back().map_or(0, |segment| segment.number);
        for segment in broken {
            let bytes = read_all(segment).map_err(|e| self.io_error("reading", &segment.name, e))?;
            let lost = |place: Place| place.segment > last && place.ordinal > 0;
            if segment::find_frame(&bytes, 0, self.identity.log, lost).is_some() {
                return Err(self.damaged(&segment.name, 0, "the header is unreadable".into()));
            }
        }
        Ok(())
    }

    fn damaged(&self, name: &str, offset: u64, reason: String) -> StoreError {
        StoreError::Damaged {
            file: self.disk.path(name),
            offset,
            reason,
        }
    }

    fn io_error(&self, doing: &str, name: &str, source: io::Error) -> StoreError {
        io_error(&*self.disk, doing, name, source)
    }
}

impl Recovered {
    /// Adds a batch. An entry at or before the last index replaces what follows it.
    fn take(&mut self, batch: Batch, applied: u64) -> Result<(), String> {
        for entry in batch.entries {
            self.last_index = entry.index;
            if entry.index <= applied {
                self.entries.clear();
                continue;
            }
            self.entries.truncate((entry.index - applied - 1) as usize);
            let expected = applied + 1 + self.entries.len() as u64;
            if entry.index != expected {
                return Err(format!(
                    "entry {} is missing before entry {}",
                    expected, entry.index
                ));
            }
            self.entries.push(entry);
        }
        if let Some(hard) = batch.hard {
            self.hard = hard;
        }
        Ok(())
    }
}

/// Makes one blank segment.
pub struct SpareMaker {
    disk: Arc<dyn Disk>,
    name: String,
    size: u64,
}

impl SpareMaker {
    /// Prefills the file; takes as long as the disk needs for that.
    pub fn make(self) -> Result<Segment, StoreError> {
        let made = self.disk.create(&self.name, self.size);
        let file = made.map_err(|e| io_error(&*self.disk, "creating", &self.name, e))?;
        Ok(Segment {
            name: self.name,
            file,
            size: self.size,
            number: 0,
            last_index: 0,
        })
    }
}

/// Makes a released segment a spare. Until this is done, the segment still is
/// a valid part of the chain, should the machine stop; blank them oldest first.
pub fn blank(disk: &dyn Disk, segment: &Segment) -> Result<(), StoreError> {
    let done = segment
        .file
        .write_at(0, &[0; HEADER_BYTES])
        .and_then(|()| segment.file.sync());
    done.map_err(|e| io_error(disk, "blanking", &segment.name, e))
}

type Survey = (Vec<(Header, Segment)>, Vec<Segment>, Vec<Segment>);

/// Reads every segment's header: those in use in order, the blank, the unreadable.
fn survey(disk: &dyn Disk) -> Result<Survey, StoreError> {
    let (mut found, mut blank, mut broken) = (vec![], vec![], vec![]);
    let names = disk.list().map_err(|e| io_error(disk, "listing", "", e))?;
    for name in names.into_iter().filter(|name| name.ends_with(SUFFIX)) {
        let (segment, start) = inspect(disk, name)?;
        match start {
            Start::Header(header) => found.push((header, segment)),
            Start::Blank => blank.push(segment),
            Start::Broken => broken.push(segment),
        }
    }
    found.sort_by_key(|(header, _)| header.number);
    Ok((found, blank, broken))
}

fn inspect(disk: &dyn Disk, name: String) -> Result<(Segment, Start), StoreError> {
    let read = || {
        let file = disk.open(&name)?;
        let size = file.size()?;
        let mut header = [0; HEADER_BYTES];
        // A file too short for a header was being created: nothing was ever in it.
        if size >= HEADER_BYTES as u64 {
            file.read_at(0, &mut header)?;
        }
        Ok((file, size, header))
    };
    let (file, size, header) = read().map_err(|e| io_error(disk, "opening", &name, e))?;
    let start = Header::decode(&header).map_err(|version| StoreError::Format {
        what: disk.path(&name).display().to_string(),
        reason: format!(
            "log format {version} is not known to this version, which writes {}",
            segment::VERSION
        ),
    })?;
    Ok((
        Segment {
            name,
            file,
            size,
            number: 0,
            last_index: 0,
        }
        .numbered(&start),
        start,
    ))
}

impl Segment {
    fn numbered(mut self, start: &Start) -> Segment {
        if let Start::Header(header) = start {
            self.number = header.number;
        }
        self
    }
}

/// No segment in use: fine if the first write was torn, damage if there is more.
fn no_segment(disk: &dyn Disk, broken: &[Segment]) -> Result<(), StoreError> {
    for segment in broken {
        let bytes = read_all(segment).map_err(|e| io_error(disk, "reading", &segment.name, e))?;
        if bytes.iter().skip(HEADER_BYTES).any(|byte| *byte != 0) {
            let (file, reason) = (disk.path(&segment.name), "the header is unreadable".into());
            return Err(StoreError::Damaged {
                file,
                offset: 0,
                reason,
            });
        }
    }
    Ok(())
}

fn read_all(segment: &Segment) -> io::Result<Bytes> {
    let mut bytes = vec![0; segment.size as usize];
    segment.file.read_at(0, &mut bytes)?;
    Ok(bytes.into())
}

fn file_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

fn name_number(segment: &Segment) -> u64 {
    segment
        .name
        .strip_suffix(SUFFIX)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn io_error(disk: &dyn Disk, doing: &str, name: &str, source: io::Error) -> StoreError {
    StoreError::Io {
        what: format!("{doing} {}", disk.path(name).display()),
        source,
    }
}
