//! Bits that flip on a disk that lies there, or under a process that has just stopped. Whoever starts from it must
//! name the damage and serve nothing; the administrator puts a machine with a new id in its place.
//!
//! Bits that no log can vouch for are left alone: those of the batch that it ends with, whose damage looks like a
//! write that a power cut has torn.

use std::ops::Range;

use base::{Random, SeededRandom};
use bytes::Bytes;

use super::World;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::plant::Plant;
use crate::segment::{self, HEADER_BYTES, Header, Place, Start};
use crate::simulator::disk::SimDisk;

/// A segment of a log that has batches.
struct Written {
    name: String,
    number: u64,
    batches: Vec<(Place, Range<usize>)>,
}

/// A bit that is about to flip.
struct Spot {
    name: String,
    offset: usize,
    /// The batch that it is in, if it is in one.
    batch: Option<(Place, Range<usize>)>,
}

impl World {
    /// A bit flips on the disk of a machine that the group can do without, and the machine is started.
    pub(super) fn decay_one(&mut self) -> Result<(), String> {
        let Some(at) = self.expendable() else {
            return Ok(());
        };
        let disk = self.machines[at].disk.clone();
        if choose(&disk, &self.random).is_none() {
            return Ok(());
        }
        // What was not synced may be gone with that.
        self.stop(at);
        let Some(spot) = choose(&disk, &self.random) else {
            return Ok(());
        };
        disk.flip(&spot.name, spot.offset);
        if self.plants.has(Plant::TrustBytes) {
            vouch(&disk, &spot);
        }
        self.stats.flipped += 1;
        match self.machines[at].boot(&self.random) {
            // Nothing had to be there.
            Ok(()) => Ok(()),
            Err(StoreError::Damaged { .. }) => {
                self.stats.damaged += 1;
                self.lose(at);
                Ok(())
            }
            Err(error) => Err(format!(
                "the damage at {} of {} is not named: {error}",
                spot.offset, spot.name
            )),
        }
    }
}

fn choose(disk: &SimDisk, random: &SeededRandom) -> Option<Spot> {
    let mut segments = survey(disk);
    let newest = segments.iter().map(|segment| segment.number).max()?;
    // The header of a segment was written with its first batch.
    segments.retain(|segment| segment.number < newest || segment.batches.len() > 1);
    let nth = random.below(segments.len().max(1) as u64);
    let Written {
        name,
        number,
        batches,
    } = segments.get(nth as usize)?;
    let (_, last) = batches.last()?;
    let end = match *number == newest {
        true => last.start,
        false => last.end,
    };
    let offset = random.below(end as u64) as usize;
    let batch = batches.iter().find(|(_, range)| range.contains(&offset));
    Some(Spot {
        name: name.clone(),
        offset,
        batch: batch.cloned(),
    })
}

/// The segments of a log that have batches.
fn survey(disk: &SimDisk) -> Vec<Written> {
    let names = disk.list().unwrap_or_default();
    let written = names.into_iter().filter_map(|name| {
        let bytes = Bytes::from(disk.bytes(&name));
        let Ok(Start::Header(header)) = Header::decode(bytes.first_chunk()?) else {
            return None;
        };
        let batches = batches(&bytes, &header);
        Some(Written {
            name,
            number: header.number,
            batches,
        })
    });
    written.filter(|segment| !segment.batches.is_empty()).collect()
}

fn batches(bytes: &Bytes, header: &Header) -> Vec<(Place, Range<usize>)> {
    let (mut batches, mut offset) = (vec![], HEADER_BYTES);
    while let Some((place, _, next)) = segment::frame_at(bytes, offset, header.identity.log)
        && (place.segment, place.ordinal) == (header.number, batches.len() as u32)
    {
        batches.push((place, offset..next));
        offset = next;
    }
    batches
}

/// Makes a damaged batch's checksum right: as if nobody looked at it.
fn vouch(disk: &SimDisk, spot: &Spot) {
    let Some((place, range)) = &spot.batch else { return };
    let mut batch = disk.bytes(&spot.name)[range.clone()].to_vec();
    segment::seal_frame(&mut batch, 0, *place);
    disk.overwrite(&spot.name, range.start, &batch);
}
