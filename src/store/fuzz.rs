//! Real bytes with damage in them, for everything that reads what comes from
//! disks and from other members: nothing may panic, and nothing that was damaged
//! may pass for what it is not.
//!
//! Each run tries a few hundred cases; `make fuzz` many more (`PROPTEST_CASES`).

use std::sync::{Arc, Mutex};

use ::raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot, SnapshotMetadata};
use base::{Random, SeededRandom};
use bytes::Bytes;
use proptest::prelude::*;

use crate::backup::{Backup, Files, verify};
use crate::command::{Body, Command, Ticket};
use crate::config::StoreConfig;
use crate::core::Core;
use crate::driver::{Input, inbox};
use crate::error::StoreError;
use crate::history::History;
use crate::log::{Log, Recovered};
use crate::membership::Peer;
use crate::membership::Whoami;
use crate::open::{self, Opened};
use crate::parcel::{Forwarded, Parcel, Reply};
use crate::peers::Door;
use crate::plant::Plants;
use crate::segment::Identity;
use crate::simulator::disk::SimDisk;
use crate::simulator::memory::MemoryState;
use crate::state::{Meta, State, Version};
use crate::types::{Expect, Op, Record};
use crate::wire::{self, Greeting, Piece, Purpose};

const ME: Whoami = Whoami {
    cluster: 7,
    member: 1,
};
const PEER: u64 = 2;

fn command(number: u64) -> Vec<u8> {
    let record = Record {
        text: Bytes::from_static(b"{\"\",1}"),
        revision_at: 2,
        ..Record::default()
    };
    let op = Op::Put {
        key: "/g/k/a".into(),
        record,
        expect: Expect::Any,
    };
    let ticket = Ticket { origin: 5, number };
    let body = Body::Batch(vec![op]);
    Command {
        ticket,
        now_ms: 9,
        body,
    }
    .encode()
}

fn append(index: u64, count: u64) -> Message {
    let entry = |nth| Entry {
        index: index + nth,
        term: 1,
        data: command(nth),
        ..Entry::default()
    };
    Message {
        msg_type: MessageType::MsgAppend as i32,
        from: PEER,
        to: ME.member,
        term: 1,
        index,
        log_term: u64::from(index > 0),
        commit: index,
        entries: (1..=count).map(entry).collect(),
        ..Message::default()
    }
}

/// What a member that leads may say, in this order.
fn parcels() -> Vec<Parcel> {
    let heartbeat = Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        commit: 3,
        context: vec![3; 24],
        ..append(0, 0)
    };
    let call = Forwarded {
        number: 7,
        membership: false,
        data: command(7),
    };
    let replies = [Reply::Begun, Reply::NotLeader, Reply::Refused("no".into())];
    vec![
        Parcel::Raft(Box::new(append(0, 3))),
        Parcel::Raft(Box::new(heartbeat)),
        Parcel::Forward {
            term: 1,
            calls: vec![call; 3],
        },
        Parcel::Raft(Box::new(append(3, 2))),
        Parcel::Returned {
            term: 1,
            replies: (1..).zip(replies).collect(),
        },
    ]
}

fn meta() -> Meta {
    Meta {
        applied: 9,
        applied_term: 1,
        revision: 4,
        members: ConfState {
            voters: vec![ME.member, PEER, 3],
            ..ConfState::default()
        },
        cluster: ME.cluster,
        member: PEER,
        ..Meta::default()
    }
}

/// What a member sends that has a snapshot for another.
fn pieces() -> Vec<Piece> {
    let metadata = SnapshotMetadata {
        index: 9,
        term: 1,
        conf_state: Some(meta().members),
    };
    let message = Message {
        msg_type: MessageType::MsgSnapshot as i32,
        snapshot: Some(Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        }),
        ..append(0, 0)
    };
    let version = |number: u64| Version {
        key: format!("/g/k/{number}"),
        revision: number,
        value: Bytes::from_static(&[1, 2]),
    };
    vec![
        Piece::Head(Box::new(message), meta().encode().into()),
        Piece::Portion((1..=3).map(version).collect()),
        Piece::End(3),
    ]
}

/// The frames' bodies of a conversation.
fn bodies(purpose: Purpose) -> Vec<Vec<u8>> {
    let peer = Peer {
        id: PEER,
        name: "b".into(),
        address: "10.0.0.2:6443".into(),
        ..Peer::default()
    };
    let body = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut out = vec![];
        fill(&mut out);
        out
    };
    let mut bodies = vec![body(&|out| wire::put_hello(out, &peer))];
    match purpose {
        Purpose::Parcels => bodies.extend(parcels().iter().map(|p| body(&|out| wire::put_parcel(out, p)))),
        Purpose::Snapshot => bodies.extend(pieces().iter().map(|p| body(&|out| wire::put_piece(out, p)))),
    }
    bodies
}

fn conversation(purpose: Purpose, bodies: &[Vec<u8>]) -> Vec<u8> {
    let greeting = Greeting {
        purpose,
        cluster: ME.cluster,
        from: PEER,
        to: ME.member,
    };
    let mut all = greeting.encode().to_vec();
    for body in bodies {
        wire::put_frame(&mut all, |out| out.extend_from_slice(body));
    }
    all
}

/// A conversation with damage in it: anywhere, or inside a frame whose checksum is right all the same.
fn damaged_conversation(random: &SeededRandom, purpose: Purpose) -> Vec<u8> {
    let mut bodies = bodies(purpose);
    if random.below(4) > 0 {
        let which = random.below(bodies.len() as u64) as usize;
        random.damage(&mut bodies[which]);
        return conversation(purpose, &bodies);
    }
    let mut all = conversation(purpose, &bodies);
    random.damage(&mut all);
    all
}

/// A member of three that has just started.
fn member() -> (Core, History) {
    let disk = Arc::new(SimDisk::default());
    let state: Arc<dyn State> = Arc::new(MemoryState::default());
    let config = StoreConfig::new("simulated");
    let log = open::create_log(&config, disk.clone()).expect("a log");
    let meta = Meta {
        applied: 0,
        applied_term: 0,
        revision: 0,
        member: ME.member,
        ..meta()
    };
    let opened = open::assemble(&config, state, disk, log, Recovered::default(), meta, 1);
    let Opened {
        core, cache, state, ..
    } = opened.expect("a member");
    (core, History::new(state, cache))
}

/// Has a door hear a conversation, and a core whatever got through; how much that was.
fn hear(bytes: Vec<u8>) -> usize {
    let (mut core, history) = member();
    let (slot, mut inputs) = inbox();
    let door = Door::new(ME, slot, history);
    let stream = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    // It ends in whatever way.
    let _ = runtime.block_on(door.serve(PEER, Box::new(stream)));
    let mut heard = 0;
    while let Some(input) = inputs.next() {
        match input {
            Input::Parcel(from, parcel) => {
                heard += usize::from(matches!(core.receive(from, parcel), Ok(Ok(()))))
            }
            Input::Arrival(arrival) => heard += usize::from(core.arrive(*arrival).is_ok()),
            _ => {}
        }
        // What is committed may be nonsense: then the member stops, and says why.
        while let Ok(Some(turn)) = core.turn() {
            if let Some(job) = turn.job {
                core.persisted(job.number);
            }
        }
        core.tick();
    }
    heard
}

#[test]
fn what_is_not_damaged_gets_through() {
    for (purpose, all) in [(Purpose::Parcels, 5), (Purpose::Snapshot, 1)] {
        assert_eq!(hear(conversation(purpose, &bodies(purpose))), all, "{purpose:?}");
    }
}

proptest! {
    #[test]
    fn damaged_conversations_do_no_harm(seed: u64) {
        let random = SeededRandom::new(seed);
        let purpose = if seed % 3 == 0 { Purpose::Snapshot } else { Purpose::Parcels };
        hear(damaged_conversation(&random, purpose));
    }

    #[test]
    fn damaged_records_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let mut bytes = command(1);
        random.damage(&mut bytes);
        let _ = Command::decode(bytes.into());
        let mut bytes = meta().encode();
        random.damage(&mut bytes);
        let _ = Meta::decode(bytes.into());
        let mut bytes = vec![1, 1, 1, 0, 0, 0, 0, 0, 0, b'7'];
        random.damage(&mut bytes);
        let _ = crate::version::decode("/g/k/a", 7, bytes.into());
    }

    #[test]
    fn a_damaged_backup_is_refused(seed: u64) {
        let random = SeededRandom::new(seed);
        let good = backup();
        prop_assert!(verify(&*good).is_ok());
        let mut bad = good.clone();
        random.damage(&mut bad);
        prop_assert!(bad == good || verify(&*bad).is_err());
    }

    /// Whatever happens to a log's files in one place, every entry that is read is the one that was
    /// written, none is missing before another, and at most the last batch is taken for torn; or the last
    /// two, where the damage touches both.
    #[test]
    fn a_damaged_log_is_named_or_whole(seed: u64) {
        let random = SeededRandom::new(seed);
        let (disk, names) = written_log();
        let name = &names[random.below(names.len() as u64) as usize];
        let length = disk.bytes(name).len() as u64;
        let at = random.below(length);
        for offset in at..(at + 1 + random.below(16)).min(length) {
            disk.flip(name, offset as usize);
        }
        match Log::open(Arc::new(disk.clone()), SEGMENT_BYTES, 0, Plants::default()) {
            Ok(Some((_, recovered))) => {
                let found = recovered.entries.len() as u64;
                prop_assert!(found + 2 * BATCH >= ENTRIES, "{} of {ENTRIES}", found);
                for (index, found) in (1..).zip(&recovered.entries) {
                    prop_assert_eq!(found, &entry(index));
                }
            }
            Ok(None) => prop_assert!(false, "the log is gone"),
            Err(StoreError::Damaged { .. } | StoreError::Format { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

const SEGMENT_BYTES: u64 = 4096;
const ENTRIES: u64 = 120;
const BATCH: u64 = 3;

fn entry(index: u64) -> Entry {
    Entry {
        index,
        term: 2,
        data: vec![index as u8; 20 + (index as usize * 37) % 200],
        ..Entry::default()
    }
}

/// A log of several segments, and the names of its files.
fn written_log() -> (SimDisk, Vec<String>) {
    let disk = SimDisk::default();
    let identity = Identity {
        log: 11,
        cluster: ME.cluster,
        member: ME.member,
        founder: true,
    };
    let mut log = Log::create(Arc::new(disk.clone()), identity, SEGMENT_BYTES).expect("a log");
    for first in (1..=ENTRIES).step_by(BATCH as usize) {
        let entries: Vec<_> = (first..first + BATCH).map(entry).collect();
        let hard = HardState {
            term: 2,
            vote: 1,
            commit: first,
        };
        log.append(entries.iter(), Some(hard)).expect("an append");
    }
    let names = crate::disk::Disk::list(&disk).expect("names");
    assert!(names.len() > 3, "{names:?}");
    (disk, names)
}

fn backup() -> Vec<u8> {
    struct Portions(Mutex<Vec<Vec<Version>>>);
    impl crate::state::Export for Portions {
        fn next(&mut self) -> Result<Vec<Version>, StoreError> {
            Ok(self.0.get_mut().expect("portions").pop().unwrap_or_default())
        }
    }
    let portions = pieces().into_iter().filter_map(|piece| match piece {
        Piece::Portion(versions) => Some(versions),
        _ => None,
    });
    let portions = Portions(Mutex::new(portions.collect()));
    let files = Files::from([("pki/ca".to_owned(), "secret".to_owned())]);
    let mut backup = Backup::new(&meta(), Box::new(portions), 5, &files);
    let mut all = vec![];
    loop {
        match backup.next_bytes().expect("bytes") {
            bytes if bytes.is_empty() => return all,
            bytes => all.extend(bytes),
        }
    }
}
