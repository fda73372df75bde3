//! Blank segments, made before they are needed.

use std::sync::Arc;

use super::piece::{Segment, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::segment::HEADER_BYTES;

/// Makes one blank segment.
pub struct SpareMaker {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) name: String,
    pub(super) size: u64,
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
            first: 0,
            before: 0,
            last_index: 0,
            lowest: u64::MAX,
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
