//! The bytes between members. Pure: from bytes and to bytes.
//!
//! ```text
//! connection = greeting hello frame*      one direction, dialled by the sender
//! greeting   = magic[8] version:u16 purpose:u16 cluster:u64 from:u64 to:u64 crc:u32
//! frame      = length:u32 crc:u32 body[length]
//! body       = 1 message | 2 term calls | 3 term replies | 4            a parcel
//!            | 5 message meta | 6 version* | 7 count                    a snapshot
//!            | 8 peer                                          hello: the sender
//! ```
//! Numbers of fixed width are little-endian, those in bodies LEB128; a message
//! is Raft's own encoding. Who receives a snapshot answers with one byte when
//! all of it is there.

use std::borrow::Cow;

use ::raft::eraftpb::Message;
use bytes::Bytes;
use prost::Message as _;

use crate::codec::{Malformed, Reader, put_bytes, put_number};
use crate::membership::{self, Peer, put_peer};
use crate::parcel::{Forwarded, Parcel, Reply};
use crate::state::Version;

/// Version of everything in this file: the major number in the high byte, the
/// minor one in the low. Servers whose minor numbers are one apart work together,
/// so that they can be upgraded one after the other: what a version adds is read
/// by it, and written by the next one.
pub const VERSION: u16 = 0x0001;
/// Size of a greeting.
pub const GREETING_BYTES: usize = 40;
/// Size of what comes before a frame's body.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Largest body that is taken. A call is smaller than this, and Raft sends
/// about 1 MiB at once or a single larger entry.
pub const BODY_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"CORACPER";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Parcels, as long as it lasts.
    Parcels,
    /// One snapshot.
    Snapshot,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The group.
    pub cluster: u64,
    /// Who dials.
    pub from: u64,
    /// Who is dialled.
    pub to: u64,
}

impl Greeting {
    /// The bytes.
    pub fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut out = Vec::with_capacity(GREETING_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.purpose as u16).to_le_bytes());
        for number in [self.cluster, self.from, self.to] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let mut bytes = [0; GREETING_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a greeting; refuses what another program says, or a version that is too far from this one.
    pub fn decode(bytes: &[u8; GREETING_BYTES]) -> Result<Greeting, Cow<'static, str>> {
        let mut rest = &bytes[..];
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length).unwrap_or_default();
            rest = left;
            taken
                .iter()
                .rev()
                .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        if take(8) != u64::from_le_bytes(MAGIC) {
            return Err("it is not a greeting between servers".into());
        }
        let (version, purpose) = (take(2), take(2));
        let (cluster, from, to, crc) = (take(8), take(8), take(8), take(4));
        if u64::from(crc32fast::hash(&bytes[..GREETING_BYTES - 4])) != crc {
            return Err("the greeting is damaged".into());
        }
        check_version(version)?;
        let purpose = match purpose {
            0 => Purpose::Parcels,
            1 => Purpose::Snapshot,
            _ => return Err("the greeting has an unknown purpose".into()),
        };
        Ok(Greeting {
            purpose,
            cluster,
            from,
            to,
        })
    }
}

/// Whether servers of another version and this one work together; the error says what to do.
fn check_version(theirs: u64) -> Result<(), String> {
    let [ours, theirs] = [u64::from(VERSION), theirs].map(|version| (version >> 8, version & 0xff));
    if ours.0 == theirs.0 && ours.1.abs_diff(theirs.1) <= 1 {
        return Ok(());
    }
    let older = if theirs < ours {
        "the other one"
    } else {
        "this one"
    };
    Err(format!(
        "the other server speaks version {}.{} of the protocol between servers, this one {}.{}, and they may be one \
         minor version apart: upgrade {older} first, one minor version at a time",
        theirs.0, theirs.1, ours.0, ours.1
    ))
}

/// Appends a frame whose body `fill` writes.
pub fn put_frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    fill(out);
    let body = start + FRAME_HEADER_BYTES;
    let (length, crc) = ((out.len() - body) as u32, crc32fast::hash(&out[body..]));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// The length and checksum in a frame's first bytes.
pub fn frame_header(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<(usize, u32), Malformed> {
    let [a, b, c, d, e, f, g, h] = bytes;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    match length {
        1..=BODY_BYTES_MAX => Ok((length, u32::from_le_bytes([e, f, g, h]))),
        _ => Err(Malformed("a frame is empty or too large")),
    }
}

/// Checks a frame's body.
pub fn check_body(body: &[u8], crc: u32) -> Result<(), Malformed> {
    match crc32fast::hash(body) == crc {
        true => Ok(()),
        false => Err(Malformed("a frame is damaged")),
    }
}

const RAFT: u8 = 1;
const FORWARD: u8 = 2;
const RETURNED: u8 = 3;
const REMOVED: u8 = 4;
const HEAD: u8 = 5;
const PORTION: u8 = 6;
const END: u8 = 7;
const HELLO: u8 = 8;

/// Appends a hello's body: where the sender can be found.
pub fn put_hello(out: &mut Vec<u8>, peer: &Peer) {
    out.push(HELLO);
    put_peer(out, peer);
}

/// Reads a hello's body.
pub fn hello(body: Bytes) -> Result<Peer, Malformed> {
    let mut reader = Reader::new(body);
    match reader.byte()? {
        HELLO => membership::peer(&mut reader),
        _ => Err(Malformed("a connection does not begin with a hello")),
    }
}

/// Appends a parcel's body.
pub fn put_parcel(out: &mut Vec<u8>, parcel: &Parcel) {
    match parcel {
        Parcel::Raft(message) => {
            out.push(RAFT);
            message.encode_raw(out);
        }
        Parcel::Forward { term, calls } => {
            out.push(FORWARD);
            put_number(out, *term);
            put_number(out, calls.len() as u64);
            for call in calls {
                put_number(out, call.number);
                out.push(u8::from(call.membership));
                put_bytes(out, &call.data);
            }
        }
        Parcel::Returned { term, replies } => {
            out.push(RETURNED);
            put_number(out, *term);
            put_number(out, replies.len() as u64);
            for (number, reply) in replies {
                put_number(out, *number);
                put_reply(out, reply);
            }
        }
        Parcel::Removed => out.push(REMOVED),
    }
}

/// Reads a parcel's body.
pub fn parcel(body: Bytes) -> Result<Parcel, Malformed> {
    let mut reader = Reader::new(body);
    match reader.byte()? {
        RAFT => Ok(Parcel::Raft(Box::new(message(reader.remainder())?))),
        FORWARD => {
            let (term, count) = (reader.number()?, reader.count()?);
            let mut call = || {
                Ok(Forwarded {
                    number: reader.number()?,
                    membership: reader.byte()? != 0,
                    data: reader.bytes()?.to_vec(),
                })
            };
            let calls = (0..count).map(|_| call()).collect::<Result<_, Malformed>>()?;
            Ok(Parcel::Forward { term, calls })
        }
        RETURNED => {
            let (term, count) = (reader.number()?, reader.count()?);
            let mut one = || Ok((reader.number()?, reply(&mut reader)?));
            let replies = (0..count).map(|_| one()).collect::<Result<_, Malformed>>()?;
            Ok(Parcel::Returned { term, replies })
        }
        REMOVED => Ok(Parcel::Removed),
        _ => Err(Malformed("a parcel is of an unknown kind")),
    }
}

fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Begun => out.push(1),
        Reply::NotLeader => out.push(2),
        Reply::Overloaded => out.push(3),
        Reply::Refused(reason) => {
            out.push(4);
            put_bytes(out, reason.as_bytes());
        }
    }
}

fn reply(reader: &mut Reader) -> Result<Reply, Malformed> {
    match reader.byte()? {
        1 => Ok(Reply::Begun),
        2 => Ok(Reply::NotLeader),
        3 => Ok(Reply::Overloaded),
        4 => Ok(Reply::Refused(reader.string()?)),
        _ => Err(Malformed("a reply is of an unknown kind")),
    }
}

fn message(bytes: Bytes) -> Result<Message, Malformed> {
    Message::decode(bytes).map_err(|_| Malformed("a message of Raft is unreadable"))
}

/// A piece of a snapshot.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// How it begins: Raft's message and the encoded meta data.
    Head(Box<Message>, Bytes),
    /// Some of the state.
    Portion(Vec<Version>),
    /// How it ends: so many versions there were.
    End(u64),
}

/// Appends a piece's body.
pub fn put_piece(out: &mut Vec<u8>, piece: &Piece) {
    match piece {
        Piece::Head(message, meta) => {
            out.push(HEAD);
            put_bytes(out, &message.encode_to_vec());
            put_bytes(out, meta);
        }
        Piece::Portion(versions) => {
            out.push(PORTION);
            put_number(out, versions.len() as u64);
            for version in versions {
                put_bytes(out, version.key.as_bytes());
                put_number(out, version.revision);
                put_bytes(out, &version.value);
            }
        }
        Piece::End(count) => {
            out.push(END);
            put_number(out, *count);
        }
    }
}

/// Reads a piece's body.
pub fn piece(body: Bytes) -> Result<Piece, Malformed> {
    let mut reader = Reader::new(body);
    match reader.byte()? {
        HEAD => Ok(Piece::Head(Box::new(message(reader.bytes()?)?), reader.bytes()?)),
        PORTION => {
            let count = reader.count()?;
            let mut version = || {
                Ok(Version {
                    key: reader.string()?,
                    revision: reader.number()?,
                    value: reader.bytes()?,
                })
            };
            let versions = (0..count).map(|_| version()).collect::<Result<_, Malformed>>()?;
            Ok(Piece::Portion(versions))
        }
        END => Ok(Piece::End(reader.number()?)),
        _ => Err(Malformed("a snapshot has a piece of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raft() -> Message {
        Message {
            from: 2,
            to: 1,
            term: 5,
            context: b"context".to_vec(),
            ..Message::default()
        }
    }

    fn parcels() -> Vec<Parcel> {
        let call = Forwarded {
            number: 7,
            membership: true,
            data: b"data".to_vec(),
        };
        let replies = [
            Reply::Begun,
            Reply::NotLeader,
            Reply::Overloaded,
            Reply::Refused("no".into()),
        ];
        vec![
            Parcel::Raft(Box::new(raft())),
            Parcel::Forward {
                term: 3,
                calls: vec![call],
            },
            Parcel::Returned {
                term: 3,
                replies: (1..).zip(replies).collect(),
            },
            Parcel::Removed,
        ]
    }

    #[test]
    fn parcels_come_back() {
        for sent in parcels() {
            let mut out = vec![];
            put_parcel(&mut out, &sent);
            assert_eq!(parcel(out.into()), Ok(sent));
        }
    }

    #[test]
    fn pieces_come_back() {
        let version = Version {
            key: "/g/k/a".into(),
            revision: 9,
            value: Bytes::from_static(b"value"),
        };
        let head = Piece::Head(Box::new(raft()), Bytes::from_static(b"meta"));
        for sent in [head, Piece::Portion(vec![version]), Piece::End(1)] {
            let mut out = vec![];
            put_piece(&mut out, &sent);
            assert_eq!(piece(out.into()), Ok(sent));
        }
    }

    #[test]
    fn greetings_come_back_and_damage_is_noticed() {
        let greeting = Greeting {
            purpose: Purpose::Snapshot,
            cluster: 1,
            from: 2,
            to: 3,
        };
        let good = greeting.encode();
        assert_eq!(Greeting::decode(&good), Ok(greeting));
        for byte in 0..GREETING_BYTES {
            let mut bad = good;
            bad[byte] ^= 0x20;
            assert!(Greeting::decode(&bad).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn a_minor_version_apart_is_near_enough() {
        let theirs = |version: u16| {
            let mut bytes = Greeting {
                purpose: Purpose::Parcels,
                cluster: 1,
                from: 2,
                to: 3,
            }
            .encode();
            bytes[8..10].copy_from_slice(&version.to_le_bytes());
            let crc = crc32fast::hash(&bytes[..GREETING_BYTES - 4]);
            bytes[GREETING_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
            Greeting::decode(&bytes).map(|_| ()).map_err(Cow::into_owned)
        };
        for near in [VERSION - 1, VERSION, VERSION + 1] {
            assert_eq!(theirs(near), Ok(()), "{near:x}");
        }
        let newer = theirs(VERSION + 2).expect_err("two minor versions newer");
        assert!(
            newer.contains("version 0.3") && newer.contains("upgrade this one"),
            "{newer}"
        );
        let major = theirs(VERSION + 0x100).expect_err("another major version");
        assert!(
            major.contains("version 1.1") && major.contains("this one 0.1"),
            "{major}"
        );
    }

    #[test]
    fn frames_say_how_long_they_are_and_notice_damage() {
        let mut out = vec![];
        put_frame(&mut out, |out| put_parcel(out, &Parcel::Removed));
        let header = out[..FRAME_HEADER_BYTES].try_into().expect("a header");
        let (length, crc) = frame_header(header).expect("a frame");
        assert_eq!(length, 1);
        assert_eq!(check_body(&out[FRAME_HEADER_BYTES..], crc), Ok(()));
        assert!(check_body(b"x", crc).is_err());
        assert!(frame_header([0; 8]).is_err(), "empty");
        assert!(frame_header([0xff; 8]).is_err(), "too large");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_not_trusted(garbage: Vec<u8>) {
            let _ = parcel(garbage.clone().into());
            let _ = piece(garbage.into());
        }

        /// Real bodies with a byte changed: anything may come out but a panic.
        #[test]
        fn spoilt_parcels_do_not_panic(which in 0usize..4, at: usize, byte: u8) {
            let mut out = vec![];
            put_parcel(&mut out, &parcels()[which]);
            let at = at % out.len();
            out[at] = byte;
            let _ = parcel(out.into());
        }
    }
}
