//! What a log entry carries: the commands that every member applies.
//!
//! ```text
//! entry data = version (1 byte) origin number now_ms kind (1 byte) body
//! ```
//! All numbers are LEB128. An entry without data is Raft's own.

use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_bytes, put_header, put_number, put_optional};
use crate::membership::{self, Change, Peer, put_change, put_peer};
use crate::types::{Expect, Op, Record};

/// Format of everything in this file; changes when the bytes change.
const VERSION: u8 = 1;

const BATCH: u8 = 1;
const EXPIRE: u8 = 2;
const COMPACT: u8 = 3;
const ANNOUNCE: u8 = 4;
const MEMBER: u8 = 5;
const HELD: u8 = 6;

/// The ticket number of commands that nobody waits for.
pub const NOBODY: u64 = 0;

/// One command, as proposed by the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who waits for the outcome.
    pub ticket: Ticket,
    /// The proposer's wall clock in milliseconds since the Unix epoch. Carried
    /// along so that apply needs no clock and stays deterministic.
    pub now_ms: u64,
    /// What to do.
    pub body: Body,
}

/// Names a caller: which run of which process, and which of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// A random number made at each start.
    pub origin: u64,
    /// Counts that process' calls.
    pub number: u64,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of the operations or, if a precondition fails, none.
    Batch(Vec<Op>),
    /// Deletes each key whose entry still has the revision named.
    Expire(Vec<(String, u64)>),
    /// Forgets history before a revision.
    Compact(u64),
    /// Tells where a member is.
    Announce(Peer),
    /// Changes the group. In the log it accompanies Raft's own change.
    Member(Change),
    /// Every full voter has the entries up to this index: a witness need not keep them.
    Held(u64),
    /// Proposed by a leader that knows every change of the members before it to be committed. To versions that
    /// do not know it, it looks like a batch of nothing that nobody waits for, and that is what it is written as.
    Settled,
}

impl Command {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.body.size_hint());
        out.push(VERSION);
        put_number(&mut out, self.ticket.origin);
        put_number(&mut out, self.ticket.number);
        put_number(&mut out, self.now_ms);
        match &self.body {
            Body::Batch(ops) => {
                out.push(BATCH);
                put_number(&mut out, ops.len() as u64);
                ops.iter().for_each(|op| put_op(&mut out, op));
            }
            Body::Expire(keys) => {
                out.push(EXPIRE);
                put_number(&mut out, keys.len() as u64);
                for (key, revision) in keys {
                    put_bytes(&mut out, key.as_bytes());
                    put_number(&mut out, *revision);
                }
            }
            Body::Compact(revision) => {
                out.push(COMPACT);
                put_number(&mut out, *revision);
            }
            Body::Announce(peer) => {
                out.push(ANNOUNCE);
                put_peer(&mut out, peer);
            }
            Body::Member(change) => {
                out.push(MEMBER);
                put_change(&mut out, change);
            }
            Body::Held(index) => {
                out.push(HELD);
                put_number(&mut out, *index);
            }
            Body::Settled => out.extend([BATCH, 0]),
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; refuses anything else.
    pub fn decode(data: Bytes) -> Result<Command, Malformed> {
        let mut reader = Reader::new(data);
        if reader.byte()? != VERSION {
            return Err(Malformed("command has an unknown version"));
        }
        let ticket = Ticket {
            origin: reader.number()?,
            number: reader.number()?,
        };
        let now_ms = reader.number()?;
        let body = match reader.byte()? {
            BATCH => match reader.count()? {
                0 if ticket.number == NOBODY => Body::Settled,
                count => Body::Batch((0..count).map(|_| op(&mut reader)).collect::<Result<_, _>>()?),
            },
            EXPIRE => {
                let count = reader.count()?;
                let keys = (0..count).map(|_| Ok((reader.string()?, reader.number()?)));
                Body::Expire(keys.collect::<Result<_, Malformed>>()?)
            }
            COMPACT => Body::Compact(reader.number()?),
            ANNOUNCE => Body::Announce(membership::peer(&mut reader)?),
            MEMBER => Body::Member(membership::change(&mut reader)?),
            HELD => Body::Held(reader.number()?),
            _ => return Err(Malformed("command has an unknown kind")),
        };
        match reader.is_empty() {
            true => Ok(Command { ticket, now_ms, body }),
            false => Err(Malformed("command has bytes left over")),
        }
    }
}

impl Body {
    fn size_hint(&self) -> usize {
        match self {
            Body::Batch(ops) => ops.iter().map(op_size_hint).sum(),
            Body::Expire(keys) => keys.iter().map(|(key, _)| key.len() + 12).sum(),
            Body::Compact(_) | Body::Held(_) | Body::Settled => 10,
            Body::Announce(_) | Body::Member(_) => 64,
        }
    }
}

fn op_size_hint(op: &Op) -> usize {
    match op {
        Op::Put { key, record, .. } => key.len() + record.text.len() + 512,
        Op::Delete { key, .. } => key.len() + 16,
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put { key, record, expect } => {
            out.push(PUT);
            put_bytes(out, key.as_bytes());
            put_expect(out, *expect);
            put_header(out, &record.header);
            put_number(out, u64::from(record.revision_at));
            put_optional(out, record.ttl_seconds.map(u64::from));
            put_bytes(out, &record.text);
        }
        Op::Delete { key, expect } => {
            out.push(DELETE);
            put_bytes(out, key.as_bytes());
            put_expect(out, *expect);
        }
    }
}

fn op(reader: &mut Reader) -> Result<Op, Malformed> {
    let kind = reader.byte()?;
    let key = reader.string()?;
    let expect = expect(reader)?;
    match kind {
        PUT => Ok(Op::Put {
            key,
            record: record(reader)?,
            expect,
        }),
        DELETE => Ok(Op::Delete { key, expect }),
        _ => Err(Malformed("operation has an unknown kind")),
    }
}

fn record(reader: &mut Reader) -> Result<Record, Malformed> {
    let header = reader.header()?;
    let revision_at = narrow(reader.number()?)?;
    let ttl_seconds = reader.optional()?.map(narrow).transpose()?;
    let text = reader.bytes()?;
    if revision_at as usize > text.len() {
        return Err(Malformed("revision's place lies beyond the text"));
    }
    Ok(Record {
        header,
        text,
        revision_at,
        ttl_seconds,
    })
}

fn narrow(number: u64) -> Result<u32, Malformed> {
    u32::try_from(number).map_err(|_| Malformed("number is too large"))
}

fn put_expect(out: &mut Vec<u8>, expect: Expect) {
    match expect {
        Expect::Any => out.push(0),
        Expect::Absent => out.push(1),
        Expect::Present => out.push(2),
        Expect::Revision(revision) => {
            out.push(3);
            put_number(out, revision);
        }
    }
}

fn expect(reader: &mut Reader) -> Result<Expect, Malformed> {
    Ok(match reader.byte()? {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::Present,
        3 => Expect::Revision(reader.number()?),
        _ => return Err(Malformed("precondition has an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Header;
    use proptest::prelude::*;

    fn round_trip(body: Body) {
        let command = Command {
            ticket: Ticket {
                origin: u64::MAX,
                number: 3,
            },
            now_ms: 1_700_000,
            body,
        };
        assert_eq!(Command::decode(command.encode().into()), Ok(command));
    }

    #[test]
    fn commands_come_back() {
        let header = Header {
            uid: "u".into(),
            labels: vec![("a".into(), "b".into())],
            owners: vec!["o".into()],
            fields: vec![("spec.nodeName".into(), String::new())],
        };
        let record = Record {
            header,
            text: Bytes::from_static(b"{\"\"}"),
            revision_at: 2,
            ttl_seconds: Some(9),
        };
        round_trip(Body::Batch(vec![
            Op::Put {
                key: "/a/b".into(),
                record,
                expect: Expect::Revision(7),
            },
            Op::Put {
                key: "k".into(),
                record: Record::default(),
                expect: Expect::Absent,
            },
            Op::Delete {
                key: "/ü".into(),
                expect: Expect::Present,
            },
            Op::Delete {
                key: "x".into(),
                expect: Expect::Any,
            },
        ]));
        round_trip(Body::Expire(vec![("/a".into(), 300), ("/b".into(), 1)]));
        round_trip(Body::Compact(1 << 40));
    }

    #[test]
    fn a_cut_command_is_refused_at_every_length() {
        let body = Body::Expire(vec![("/a".into(), 300)]);
        let data: Bytes = Command {
            ticket: Ticket { origin: 1, number: 2 },
            now_ms: 3,
            body,
        }
        .encode()
        .into();
        for length in 0..data.len() {
            assert!(Command::decode(data.slice(..length)).is_err());
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_not_trusted(mut garbage: Vec<u8>) {
            garbage.insert(0, VERSION);
            let _ = Command::decode(garbage.into());
        }
    }
}
