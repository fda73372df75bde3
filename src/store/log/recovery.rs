//! Opening a log: reading what is there, telling a torn last write (which is
//! cut off: it was never acknowledged) from damage (which is an error).
//!
//! What is read may still be in the page cache only: the process was killed and
//! not the machine, perhaps after a sync that failed and that the kernel has
//! forgotten. So the last batch is written again before anything builds upon it;
//! those before it were synced, or it would not have been begun.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState};

use super::piece::{SUFFIX, Segment, io_error};
use super::{Log, blank};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::plant::{Plant, Plants};
use crate::segment::{self, Batch, HEADER_BYTES, Header, Place, Start};

/// What was in the log when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The hard state written last.
    pub hard: HardState,
    /// All entries after the index asked for, without gaps.
    pub entries: Vec<Entry>,
    /// Index of the last entry appended, whether asked for or not.
    pub last_index: u64,
    /// Index of the last snapshot from which the log began anew; 0 if it never did.
    pub base: u64,
}

impl Log {
    /// Opens the log in a folder; `None` if there is none. Entries up to
    /// `applied` are checked but not returned.
    pub fn open(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        applied: u64,
        plants: Plants,
    ) -> Result<Option<(Log, Recovered)>, StoreError> {
        let (found, spares, broken) = survey(&*disk)?;
        let names = found.iter().map(|(_, s)| s).chain(&spares).chain(&broken);
        let names = names.map(name_number).max().unwrap_or(0);
        let Sorted { chain, void } = sort(&*disk, found)?;
        let Some((first, _)) = chain.first() else {
            return no_segment(&*disk, &broken).map(|()| None);
        };
        let mut log = Log::empty(disk, first.identity, segment_bytes);
        log.names = names;
        let mut recovered = Recovered {
            hard: first.hard.clone(),
            last_index: first.last_index,
            base: first.base,
            ..Recovered::default()
        };
        let replayed = log.replay(chain, applied, plants, &mut recovered);
        replayed.map_err(|error| log.blame(error, &broken))?;
        log.check_broken(&broken)?;
        // What was read may still be in the page cache only (the process was
        // killed, not the machine): make it durable before building upon it.
        for segment in &log.live {
            segment
                .file
                .sync()
                .map_err(|e| log.io_error("syncing", &segment.name, e))?;
        }
        // Blank headers too, and by writing them again: the sync after the first time may have
        // failed. One that came back after later ones are blanked would leave a hole in the chain.
        for segment in spares.iter().chain(&broken).chain(&void) {
            blank(&*log.disk, segment)?;
        }
        for segment in spares.into_iter().chain(broken).chain(void) {
            log.reuse(segment)?;
        }
        Ok(Some((log, recovered)))
    }

    fn replay(
        &mut self,
        found: Vec<(Header, Segment)>,
        applied: u64,
        plants: Plants,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let mut rewrite = None;
        for (header, mut segment) in found {
            self.check_chain(&header, &segment)?;
            let bytes = read_all(&segment).map_err(|e| self.io_error("reading", &segment.name, e))?;
            recovered.hard = header.hard.clone();
            (self.offset, self.ordinal) = (HEADER_BYTES as u64, 0);
            let (mut last, mut lowest, mut highest) = (0, u64::MAX, header.last_index);
            while let Some((place, body, next)) =
                segment::frame_at(&bytes, self.offset as usize, self.identity.log)
            {
                if (place.segment, place.ordinal) != (header.number, self.ordinal) {
                    break;
                }
                let batch = segment::decode_body(body)
                    .map_err(|e| self.damaged(&segment.name, self.offset, e.0.to_owned()))?;
                lowest = batch
                    .entries
                    .iter()
                    .fold(lowest, |lowest, entry| lowest.min(entry.index));
                recovered
                    .take(batch, applied)
                    .map_err(|e| self.damaged(&segment.name, self.offset, e))?;
                // Of those that were replaced too, as the next segment's header says.
                highest = highest.max(recovered.last_index);
                // The first one was written together with the header.
                last = if self.ordinal == 0 { 0 } else { self.offset };
                (self.offset, self.ordinal) = (next as u64, self.ordinal + 1);
            }
            if !plants.has(Plant::CutDamage) {
                self.check_tail(&header, &segment, &bytes)?;
            }
            segment.take_on(&header);
            self.appended += self.offset;
            self.number = header.number;
            segment.last_index = highest;
            segment.lowest = segment.lowest.min(lowest);
            self.live.push_back(segment);
            rewrite = Some((last, bytes));
        }
        self.write_again(rewrite)?;
        (self.hard, self.last_index) = (recovered.hard.clone(), recovered.last_index);
        self.base = recovered.base;
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
            // It may stand for some before it, which were given up.
            Some(before) if ![header.number, header.repeats].contains(&(before.number + 1)) => {
                let reason = format!("segment {} before it is missing", header.number - 1);
                Err(self.damaged(&segment.name, 0, reason))
            }
            // Nothing was written to the next one before all of this one was synced.
            Some(before) if header.repeats == 0 && header.last_index > before.last_index => {
                let reason = format!(
                    "a batch is unreadable: before the next segment was begun there were entries up to {}",
                    header.last_index
                );
                Err(self.damaged(&before.name, self.offset, reason))
            }
            _ => Ok(()),
        }
    }

    /// Names the segment whose header is unreadable, where it is its absence that was noticed.
    fn blame(&self, error: StoreError, broken: &[Segment]) -> StoreError {
        let StoreError::Damaged { reason, .. } = &error else {
            return error;
        };
        let frame = |bytes: &Bytes| segment::find_frame(bytes, 0, self.identity.log, |_| true);
        let written = |segment: &&Segment| read_all(segment).is_ok_and(|bytes| frame(&bytes).is_some());
        match broken.iter().find(written) {
            Some(segment) => {
                let reason = format!("the header is unreadable, and without it: {reason}");
                self.damaged(&segment.name, 0, reason)
            }
            None => error,
        }
    }

    /// Writes the last batch once more; all is synced afterwards.
    fn write_again(&self, last: Option<(u64, Bytes)>) -> Result<(), StoreError> {
        let (Some((offset, bytes)), Some(segment)) = (last, self.live.back()) else {
            return Ok(());
        };
        let batch = bytes
            .get(offset as usize..(self.offset as usize).min(bytes.len()))
            .unwrap_or_default();
        let written = segment.file.write_at(offset, batch);
        written.map_err(|e| self.io_error("writing", &segment.name, e))
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
}

impl Recovered {
    /// Adds a batch. An entry at or before the last index replaces what follows it.
    fn take(&mut self, batch: Batch, applied: u64) -> Result<(), String> {
        if let Some(base) = batch.base {
            // The state is durable before the log lets go of what led to it.
            if base > applied {
                return Err(format!(
                    "it begins after entry {base}, but the state ends at {applied}"
                ));
            }
            self.entries.clear();
            (self.base, self.last_index) = (base, base);
        }
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

/// Segments in use, by what they are worth.
struct Sorted {
    /// Those that hold the log, in order.
    chain: Vec<(Header, Segment)>,
    /// Those that were given up, or begun to take the place of such and not finished.
    void: Vec<Segment>,
}

/// Tells segments that count from those that were given up, see `log/repair.rs`.
fn sort(disk: &dyn Disk, found: Vec<(Header, Segment)>) -> Result<Sorted, StoreError> {
    let (mut chain, mut void) = (vec![], vec![]);
    // Everything from here on is repeated in a later segment.
    let mut repeated = u64::MAX;
    for (header, segment) in found.into_iter().rev() {
        let counts = header.number < repeated && (header.repeats == 0 || is_whole(disk, &header, &segment)?);
        if counts && header.repeats > 0 {
            repeated = repeated.min(header.repeats);
        }
        match counts {
            true => chain.push((header, segment)),
            false => void.push(segment),
        }
    }
    chain.reverse();
    // Oldest first: should the machine stop in between, there must be no hole.
    void.reverse();
    Ok(Sorted { chain, void })
}

/// Whether a segment that repeats others has all of its first batch. Without it, but with a later one, it is damaged.
fn is_whole(disk: &dyn Disk, header: &Header, segment: &Segment) -> Result<bool, StoreError> {
    let bytes = read_all(segment).map_err(|e| io_error(disk, "reading", &segment.name, e))?;
    let log = header.identity.log;
    let ours = |place: Place| place.segment == header.number;
    if segment::frame_at(&bytes, HEADER_BYTES, log).is_some_and(|(place, ..)| ours(place)) {
        return Ok(true);
    }
    match segment::find_frame(&bytes, HEADER_BYTES, log, ours) {
        None => Ok(false),
        Some(at) => Err(StoreError::Damaged {
            file: disk.path(&segment.name),
            offset: HEADER_BYTES as u64,
            reason: format!("a batch is unreadable, but one at offset {at} follows it"),
        }),
    }
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
    let segment = Segment {
        name,
        file,
        size,
        number: 0,
        first: 0,
        before: 0,
        last_index: 0,
        lowest: u64::MAX,
    };
    Ok((segment, start))
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

pub(super) fn read_all(segment: &Segment) -> io::Result<Bytes> {
    let mut bytes = vec![0; segment.size as usize];
    segment.file.read_at(0, &mut bytes)?;
    Ok(bytes.into())
}

fn name_number(segment: &Segment) -> u64 {
    segment
        .name
        .strip_suffix(SUFFIX)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
