//! A backup: one file with the whole state as it was at one moment, and with
//! small files that belong to it.
//!
//! ```text
//! backup  = "CORABACK" version:u32 head portion* tail
//! each    = length:u32 crc:u32 body                  (`wire.rs`'s frames)
//! head    = 'H' meta made_ms (name bytes)*           what the state knows beside its versions
//! portion = as in a snapshot between members
//! tail    = 'T' versions crc:u32                     of everything before the tail
//! ```
//! Every frame has its checksum, the tail one over all of them and the number of
//! versions: what is cut off, changed or put together of two backups is refused.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_bytes, put_number};
use crate::error::StoreError;
use crate::state::{Export, Meta, Version};
use crate::wire::{self, FRAME_HEADER_BYTES, Piece};

const MAGIC: &[u8; 8] = b"CORABACK";
/// Format of everything in this file; changes when the bytes change.
const VERSION: u32 = 1;

const HEAD: u8 = b'H';
const TAIL: u8 = b'T';

/// Small files, by name, which lie in a backup beside the state.
pub type Files = BTreeMap<String, String>;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The latest revision in it.
    pub revision: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// How many versions of entries are in it.
    pub versions: u64,
    /// The files beside the state.
    pub files: Files,
}

/// A backup that is being made.
pub struct Backup {
    /// What comes next without being asked for: the head, at first.
    begun: Option<Vec<u8>>,
    export: Box<dyn Export>,
    versions: u64,
    crc: crc32fast::Hasher,
    ended: bool,
}

impl Backup {
    pub(crate) fn new(meta: &Meta, export: Box<dyn Export>, made_ms: u64, files: &Files) -> Backup {
        let mut begun = MAGIC.to_vec();
        begun.extend_from_slice(&VERSION.to_le_bytes());
        wire::put_frame(&mut begun, |out| {
            out.push(HEAD);
            put_bytes(out, &meta.encode());
            put_number(out, made_ms);
            put_number(out, files.len() as u64);
            for (name, text) in files {
                put_bytes(out, name.as_bytes());
                put_bytes(out, text.as_bytes());
            }
        });
        Backup {
            begun: Some(begun),
            export,
            versions: 0,
            crc: crc32fast::Hasher::new(),
            ended: false,
        }
    }

    /// The next bytes; empty when the backup is complete. Waits for the disk.
    pub fn next_bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = self.begun.take().unwrap_or_default();
        if bytes.is_empty() && !self.ended {
            let portion = self.export.next()?;
            self.versions += portion.len() as u64;
            self.ended = portion.is_empty();
            wire::put_frame(&mut bytes, |out| match self.ended {
                false => wire::put_piece(out, &Piece::Portion(portion)),
                true => put_tail(out, self.versions, self.crc.clone().finalize()),
            });
        }
        self.crc.update(&bytes);
        Ok(bytes)
    }
}

fn put_tail(out: &mut Vec<u8>, versions: u64, crc: u32) {
    out.push(TAIL);
    put_number(out, versions);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// A backup that is being read, up to and behind its head.
pub struct Source<R> {
    from: R,
    crc: crc32fast::Hasher,
    versions: u64,
    /// What the state knows beside its versions.
    pub(crate) meta: Meta,
    made_ms: u64,
    files: Files,
}

impl<R: Read> Source<R> {
    /// Reads the head.
    pub fn open(mut from: R) -> Result<Source<R>, StoreError> {
        let mut begin = [0; MAGIC.len() + 4];
        fill(&mut from, &mut begin)?;
        let (magic, version) = begin.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(refused("it is not a backup of Coracle"));
        }
        if version != VERSION.to_le_bytes() {
            return Err(refused(
                "it was written by a newer version: restore it with that one",
            ));
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&begin);
        let body = frame(&mut from, &mut crc)?;
        let (meta, made_ms, files) = head(body).map_err(|error| refused(error.0))?;
        Ok(Source {
            from,
            crc,
            versions: 0,
            meta: Meta::decode(meta)?,
            made_ms,
            files,
        })
    }

    /// Hands all versions to `take`, in portions, and says what it was that was
    /// read, once everything is known to be whole. What was taken before an
    /// error is worth nothing.
    pub fn read(
        mut self,
        mut take: impl FnMut(Vec<Version>) -> Result<(), StoreError>,
    ) -> Result<About, StoreError> {
        loop {
            let before = self.crc.clone().finalize();
            let body = frame(&mut self.from, &mut self.crc)?;
            if body.first() == Some(&TAIL) {
                self.end(body, before)?;
                break;
            }
            match wire::piece(body).map_err(|error| refused(error.0))? {
                Piece::Portion(versions) => {
                    self.versions += versions.len() as u64;
                    take(versions)?;
                }
                _ => return Err(refused("something is in it that does not belong there")),
            }
        }
        Ok(About {
            revision: self.meta.revision,
            made_ms: self.made_ms,
            versions: self.versions,
            files: self.files,
        })
    }

    fn end(&mut self, tail: Bytes, crc: u32) -> Result<(), StoreError> {
        let mut expected = vec![];
        put_tail(&mut expected, self.versions, crc);
        if tail != expected {
            return Err(refused("parts of it are missing or of another backup"));
        }
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(refused("something follows its end")),
            Err(error) => Err(reading(error)),
        }
    }
}

/// Checks a backup from its beginning to its end.
pub fn verify(from: impl Read) -> Result<About, StoreError> {
    Source::open(from)?.read(|_| Ok(()))
}

fn head(body: Bytes) -> Result<(Bytes, u64, Files), Malformed> {
    let mut reader = Reader::new(body);
    if reader.byte()? != HEAD {
        return Err(Malformed("its head is missing"));
    }
    let (meta, made_ms, count) = (reader.bytes()?, reader.number()?, reader.count()?);
    let files = (0..count).map(|_| Ok((reader.string()?, reader.string()?)));
    Ok((meta, made_ms, files.collect::<Result<_, Malformed>>()?))
}

fn frame(from: &mut impl Read, crc: &mut crc32fast::Hasher) -> Result<Bytes, StoreError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    fill(from, &mut header)?;
    crc.update(&header);
    let (length, checksum) = wire::frame_header(header).map_err(|error| refused(error.0))?;
    let mut body = vec![0; length];
    fill(from, &mut body)?;
    crc.update(&body);
    wire::check_body(&body, checksum).map_err(|error| refused(error.0))?;
    Ok(body.into())
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), StoreError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => refused("it is cut off"),
        _ => reading(error),
    })
}

fn reading(source: std::io::Error) -> StoreError {
    StoreError::Io {
        what: "reading the backup".into(),
        source,
    }
}

fn refused(reason: &str) -> StoreError {
    StoreError::Format {
        what: "the backup cannot be used".into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Portions(Vec<Vec<Version>>);

    impl Export for Portions {
        fn next(&mut self) -> Result<Vec<Version>, StoreError> {
            Ok(self.0.pop().unwrap_or_default())
        }
    }

    fn version(key: &str) -> Version {
        Version {
            key: key.into(),
            revision: 7,
            value: Bytes::from_static(b"value"),
        }
    }

    fn sample() -> Vec<u8> {
        let portions = vec![vec![version("c")], vec![version("a"), version("b")]];
        let meta = Meta {
            revision: 9,
            ..Meta::default()
        };
        let files = Files::from([("pki/ca".to_owned(), "secret".to_owned())]);
        let mut backup = Backup::new(&meta, Box::new(Portions(portions)), 5, &files);
        let mut all = vec![];
        loop {
            match backup.next_bytes().expect("bytes") {
                bytes if bytes.is_empty() => return all,
                bytes => all.extend(bytes),
            }
        }
    }

    #[test]
    fn backups_come_back() {
        let mut keys = vec![];
        let bytes = sample();
        let source = Source::open(&*bytes).expect("a head");
        let about = source.read(|portion| {
            keys.extend(portion.into_iter().map(|version| version.key));
            Ok(())
        });
        let about = about.expect("a whole backup");
        assert_eq!((about.revision, about.made_ms, about.versions), (9, 5, 3));
        assert_eq!(about.files["pki/ca"], "secret");
        assert_eq!(keys, ["a", "b", "c"]);
    }

    #[test]
    fn what_is_cut_or_longer_or_changed_anywhere_is_refused() {
        let good = sample();
        for end in 0..good.len() {
            assert!(verify(&good[..end]).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(verify(&*bad).is_err(), "changed at {at}");
        }
        assert!(verify(&*[good.clone(), vec![0]].concat()).is_err());
        assert!(verify(&*good).is_ok());
    }

    #[test]
    fn a_portion_that_is_missing_is_noticed() {
        let good = sample();
        let mut from = &good[MAGIC.len() + 4..];
        let mut sizes = vec![];
        let mut crc = crc32fast::Hasher::new();
        while let Ok(body) = frame(&mut from, &mut crc) {
            sizes.push(FRAME_HEADER_BYTES + body.len());
        }
        let first = MAGIC.len() + 4 + sizes[0];
        let without = [&good[..first], &good[first + sizes[1]..]].concat();
        let error = verify(&*without).expect_err("a portion is missing");
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
