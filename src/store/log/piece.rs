//! One file of the log.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::segment::Header;

/// What segment files' names end with.
pub(super) const SUFFIX: &str = ".log";

/// One segment file.
pub struct Segment {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) size: u64,
    /// From the header; 0 in a spare.
    pub(super) number: u64,
    /// The first number of the segments that this one stands for: its own, unless it repeats others.
    pub(super) first: u64,
    /// The highest index of any entry before this segment.
    pub(super) before: u64,
    /// The highest index of any entry in this segment or before it.
    pub(super) last_index: u64,
    /// No entry in this segment has an index below this one.
    pub(super) lowest: u64,
}

impl Segment {
    /// Becomes what a header says that it is.
    pub(super) fn take_on(&mut self, header: &Header) {
        self.number = header.number;
        self.first = match header.repeats {
            0 => header.number,
            repeats => repeats,
        };
        self.before = header.last_index;
        // What a segment repeats may begin anywhere.
        self.lowest = if header.repeats == 0 { u64::MAX } else { 0 };
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

pub(super) fn io_error(disk: &dyn Disk, doing: &str, name: &str, source: io::Error) -> StoreError {
    StoreError::io(doing, &disk.path(name), source)
}
