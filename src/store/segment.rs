//! The bytes of one log segment. Pure: from bytes and to bytes.
//!
//! ```text
//! segment = header (128 bytes) frame* rest
//! header  = magic[8] version:u32 flags:u32 log:u64 cluster:u64 member:u64 number:u64
//!           last_index:u64 term:u64 vote:u64 commit:u64 base:u64 repeats:u64 zeros crc:u32
//! frame   = magic:u32 crc:u32 length:u32 ordinal:u32 segment:u64 body[length] zeros to 8
//! body    = item*
//! item    = 1 term index type context data | 2 term vote commit | 3 base   (LEB128)
//! ```
//! Numbers of fixed width are little-endian. A frame is one batch, written at
//! once and synced before the next one is written; so after a crash at most the
//! last frame is torn, and a valid frame behind an invalid one means damage.
//! The checksum covers the log's random id (which clients cannot know, so they
//! cannot forge frames inside their data), the segment's number and the
//! frame's ordinal: what a recycled file holds from its earlier life is not
//! taken for a frame of this one.

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState};

use crate::codec::{Malformed, Reader, put_bytes, put_number};

/// Format of everything in this file; changes when the bytes change.
pub const VERSION: u32 = 1;
/// Size of the header; frames begin here.
pub const HEADER_BYTES: usize = 128;
/// Size of a frame's fixed part.
pub const FRAME_HEADER_BYTES: usize = 24;

const HEADER_MAGIC: [u8; 8] = *b"CORACLOG";
const FRAME_MAGIC: u32 = 0x6d72_4643;
const FLAG_FOUNDER: u32 = 1;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the log; part of every checksum.
    pub log: u64,
    /// Random, the same on all members of a group.
    pub cluster: u64,
    /// This member's id, never used by another nor again.
    pub member: u64,
    /// This member made the group: it began as its only voter.
    pub founder: bool,
}

/// What the beginning of a segment says, so that older segments may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Whose log it is.
    pub identity: Identity,
    /// Counts segments from 1; a recycled file gets a new number.
    pub number: u64,
    /// Index of the log's last entry when the segment was begun.
    pub last_index: u64,
    /// Raft's hard state when the segment was begun.
    pub hard: HardState,
    /// Index of the last snapshot from which the log began anew; 0 if it never did.
    pub base: u64,
    /// If not 0: the segments from this number on were given up after a failed write or
    /// sync, and whatever of them counts is in this one's first batch. A segment of
    /// this sort whose first batch is not whole was never part of the log.
    pub repeats: u64,
}

/// What a segment's first bytes turned out to be.
#[derive(Debug, PartialEq)]
pub enum Start {
    /// A segment in use.
    Header(Header),
    /// Zeros: a spare.
    Blank,
    /// Neither: a first write that was torn, or damage.
    Broken,
}

/// What a frame holds.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// Entries, in index order.
    pub entries: Vec<Entry>,
    /// The hard state after the batch, if it changed.
    pub hard: Option<HardState>,
    /// The log begins anew after this index: nothing before counts.
    pub base: Option<u64>,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&if self.identity.founder { FLAG_FOUNDER } else { 0 }.to_le_bytes());
        let (identity, hard) = (&self.identity, &self.hard);
        for number in [
            identity.log,
            identity.cluster,
            identity.member,
            self.number,
            self.last_index,
            hard.term,
            hard.vote,
            hard.commit,
            self.base,
            self.repeats,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.resize(HEADER_BYTES - 4, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a segment's first bytes. The error is a version of the format that
    /// this program does not know.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Start, u32> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Start::Blank);
        }
        let (content, crc) = bytes.split_at(HEADER_BYTES - 4);
        if content[..8] != HEADER_MAGIC || crc32fast::hash(content) != u32_at(crc, 0) {
            return Ok(Start::Broken);
        }
        if u32_at(content, 8) != VERSION {
            return Err(u32_at(content, 8));
        }
        let number = |nth: usize| u64_at(content, 16 + nth * 8);
        let founder = u32_at(content, 12) & FLAG_FOUNDER != 0;
        Ok(Start::Header(Header {
            identity: Identity {
                log: number(0),
                cluster: number(1),
                member: number(2),
                founder,
            },
            number: number(3),
            last_index: number(4),
            hard: HardState {
                term: number(5),
                vote: number(6),
                commit: number(7),
            },
            base: number(8),
            repeats: number(9),
        }))
    }
}

/// Where a frame belongs; part of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// [`Identity::log`].
    pub log: u64,
    /// [`Header::number`].
    pub segment: u64,
    /// Counts the segment's frames from 0.
    pub ordinal: u32,
}

/// Appends an empty frame to `out`; fill its body, then call [`seal_frame`].
/// Returns where the frame begins.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME_HEADER_BYTES, 0);
    start
}

/// Appends an entry to the body of the frame begun last.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(1);
    put_number(out, entry.term);
    put_number(out, entry.index);
    put_number(out, entry.entry_type.max(0) as u64);
    put_bytes(out, &entry.context);
    put_bytes(out, &entry.data);
}

/// Appends a hard state to the body of the frame begun last.
pub fn put_hard(out: &mut Vec<u8>, hard: &HardState) {
    out.push(2);
    put_number(out, hard.term);
    put_number(out, hard.vote);
    put_number(out, hard.commit);
}

/// Appends, before any entries, that the log begins anew after `base`.
pub fn put_base(out: &mut Vec<u8>, base: u64) {
    out.push(3);
    put_number(out, base);
}

/// Fills in the header of the frame that begins at `start` and ends where `out` ends.
pub fn seal_frame(out: &mut Vec<u8>, start: usize, place: Place) {
    let length = (out.len() - start - FRAME_HEADER_BYTES) as u32;
    out.resize(out.len().next_multiple_of(8), 0);
    let header = &mut out[start..start + FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&place.ordinal.to_le_bytes());
    header[16..24].copy_from_slice(&place.segment.to_le_bytes());
    let end = start + FRAME_HEADER_BYTES + length as usize;
    let crc = checksum(&out[start + 8..end], place.log);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The frame at `offset` of a whole segment's bytes, if there is a valid one:
/// its place, its body, and where the next frame begins.
pub fn frame_at(segment: &Bytes, offset: usize, log: u64) -> Option<(Place, Bytes, usize)> {
    let header = segment.get(offset..offset + FRAME_HEADER_BYTES)?;
    if u32_at(header, 0) != FRAME_MAGIC {
        return None;
    }
    let body = offset + FRAME_HEADER_BYTES;
    let end = body.checked_add(u32_at(header, 8) as usize)?;
    if checksum(segment.get(offset + 8..end)?, log) != u32_at(header, 4) {
        return None;
    }
    let place = Place {
        log,
        segment: u64_at(header, 16),
        ordinal: u32_at(header, 12),
    };
    Some((place, segment.slice(body..end), end.next_multiple_of(8)))
}

/// Looks from `offset` on for any valid frame that `wanted` accepts; returns where it begins.
pub fn find_frame(segment: &Bytes, offset: usize, log: u64, wanted: impl Fn(Place) -> bool) -> Option<usize> {
    (offset.next_multiple_of(8)..segment.len())
        .step_by(8)
        .find(|at| frame_at(segment, *at, log).is_some_and(|(place, ..)| wanted(place)))
}

/// Reads a frame's body.
pub fn decode_body(body: Bytes) -> Result<Batch, Malformed> {
    let mut reader = Reader::new(body);
    let mut batch = Batch::default();
    while !reader.is_empty() {
        match reader.byte()? {
            1 => batch.entries.push(entry(&mut reader)?),
            2 => {
                let (term, vote, commit) = (reader.number()?, reader.number()?, reader.number()?);
                batch.hard = Some(HardState { term, vote, commit });
            }
            3 => batch.base = Some(reader.number()?),
            _ => return Err(Malformed("frame has an item of an unknown kind")),
        }
    }
    Ok(batch)
}

fn entry(reader: &mut Reader) -> Result<Entry, Malformed> {
    let (term, index) = (reader.number()?, reader.number()?);
    let entry_type = i32::try_from(reader.number()?).map_err(|_| Malformed("entry has an unknown type"))?;
    let (context, data) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
    Ok(Entry {
        entry_type,
        term,
        index,
        data,
        context,
        ..Entry::default()
    })
}

fn checksum(content: &[u8], log: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&log.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// Callers have checked the length: these are offsets into fixed-size headers.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        log: 77,
        segment: 3,
        ordinal: 5,
    };

    fn sample() -> Vec<u8> {
        let mut out = vec![];
        let start = begin_frame(&mut out);
        put_entry(
            &mut out,
            &Entry {
                term: 2,
                index: 9,
                data: b"data".to_vec(),
                ..Entry::default()
            },
        );
        put_hard(
            &mut out,
            &HardState {
                term: 2,
                vote: 1,
                commit: 8,
            },
        );
        seal_frame(&mut out, start, PLACE);
        out
    }

    #[test]
    fn frames_come_back() {
        let bytes = Bytes::from(sample());
        let (place, body, next) = frame_at(&bytes, 0, 77).expect("a valid frame");
        assert_eq!((place, next), (PLACE, bytes.len()));
        let batch = decode_body(body).expect("a readable body");
        assert_eq!(batch.entries[0].data, b"data");
        assert_eq!(batch.hard.map(|hard| hard.commit), Some(8));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample();
        let length = frame_at(&Bytes::from(good.clone()), 0, 77).map_or(0, |(_, body, _)| body.len());
        for bit in 0..(FRAME_HEADER_BYTES + length) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(frame_at(&bad.into(), 0, 77), None, "bit {bit}");
        }
        assert_eq!(frame_at(&good.into(), 0, 78), None, "another log's frame");
    }

    #[test]
    fn headers_come_back_and_damage_is_noticed() {
        let identity = Identity {
            log: 1,
            cluster: 2,
            member: 3,
            founder: true,
        };
        let hard = HardState {
            term: 6,
            vote: 3,
            commit: 9,
        };
        let header = Header {
            identity,
            number: 4,
            last_index: 5,
            hard,
            base: 7,
            repeats: 2,
        };
        let good = header.encode();
        assert_eq!(Header::decode(&good), Ok(Start::Header(header)));
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), Ok(Start::Blank));
        for byte in 0..HEADER_BYTES {
            let mut bad = good;
            bad[byte] ^= 0x10;
            assert_eq!(Header::decode(&bad), Ok(Start::Broken), "byte {byte}");
        }
    }

    #[test]
    fn frames_are_found_behind_damage() {
        let mut bytes = vec![0xaa; 40];
        bytes.extend(sample());
        let bytes = Bytes::from(bytes);
        assert_eq!(find_frame(&bytes, 3, 77, |place| place == PLACE), Some(40));
        assert_eq!(find_frame(&bytes, 48, 77, |_| true), None);
    }
}
