//! What no message may do: make the library panic.

use ::raft::eraftpb::{Snapshot, SnapshotMetadata};
use base::{Random, SeededRandom};

use super::*;
use crate::membership::Peer;
use crate::plant::Plants;

fn habits(origin: u64) -> Habits {
    Habits {
        origin,
        keep_history: None,
        keep_log_bytes: 500,
        witness: false,
        here: Peer::default(),
        plants: Plants::default(),
    }
}

/// Member 1 of three, or one that is about to join.
fn member(random: &SeededRandom, joined: bool) -> (Member, Meta) {
    let voters = if joined { vec![1, 2, 3] } else { vec![] };
    let meta = Meta {
        applied: if joined { 5 } else { 0 },
        applied_term: u64::from(joined),
        members: ConfState {
            voters,
            ..ConfState::default()
        },
        member: 1,
        ..Meta::default()
    };
    begun(random, meta)
}

/// A member of three, who have all applied the same.
fn member_of_three(random: &SeededRandom, id: u64) -> (Member, Meta) {
    let (_, meta) = member(random, true);
    begun(random, Meta { member: id, ..meta })
}

fn begun(random: &SeededRandom, meta: Meta) -> (Member, Meta) {
    let member = Member::new(&meta, Recovered::default(), &habits(random.number()));
    (member.expect("a member"), meta)
}

/// Numbers around those that mean something here, and some that mean nothing.
fn number(random: &SeededRandom, member: &Member) -> u64 {
    let near = [
        0,
        1,
        member.committed(),
        member.last_index(),
        member.term(),
        u64::MAX,
    ];
    let base = near[random.below(near.len() as u64) as usize];
    base.wrapping_add(random.below(4)).wrapping_sub(random.below(3))
}

fn entries(random: &SeededRandom, member: &Member, index: u64) -> Vec<Entry> {
    let count = random.below(4);
    let entry = |nth| Entry {
        // Mostly as it should be, or nothing would get past the first check.
        index: if random.below(10) > 0 {
            index.wrapping_add(nth)
        } else {
            number(random, member)
        },
        term: if random.below(4) > 0 {
            member.term()
        } else {
            number(random, member)
        },
        entry_type: if random.below(10) > 0 {
            0
        } else {
            random.below(4) as i32
        },
        data: vec![7; random.below(200) as usize],
        ..Entry::default()
    };
    (1..=count).map(entry).collect()
}

fn snapshot(random: &SeededRandom, member: &Member) -> Snapshot {
    let ids = |most: u64| {
        (0..random.below(most))
            .map(|_| random.below(5))
            .collect::<Vec<_>>()
    };
    let conf_state = ConfState {
        voters: if random.below(3) > 0 {
            vec![1, 2, 3]
        } else {
            ids(5)
        },
        learners: if random.below(3) > 0 { vec![] } else { ids(3) },
        voters_outgoing: if random.below(3) > 0 { vec![] } else { ids(4) },
        learners_next: if random.below(4) > 0 { vec![] } else { ids(2) },
        auto_leave: random.below(3) == 0,
    };
    Snapshot {
        metadata: (random.below(10) > 0).then_some(SnapshotMetadata {
            index: number(random, member),
            term: number(random, member),
            conf_state: (random.below(10) > 0).then_some(conf_state),
        }),
        ..Snapshot::default()
    }
}

fn message(random: &SeededRandom, member: &Member) -> Message {
    let any = || number(random, member);
    let (index, log_term) = (any(), any());
    let (commit, commit_term, reject_hint) = (any(), any(), any());
    Message {
        msg_type: random.below(20) as i32,
        to: u64::from(random.below(20) > 0),
        from: random.below(6),
        term: if random.below(3) > 0 { member.term() } else { any() },
        index,
        log_term,
        entries: entries(random, member, index),
        commit,
        commit_term,
        reject: random.below(2) == 0,
        reject_hint,
        snapshot: (random.below(2) == 0).then(|| snapshot(random, member)),
        request_snapshot: if random.below(4) > 0 { 0 } else { any() },
        context: vec![1; random.below(30) as usize],
        ..Message::default()
    }
}

/// Does what comes out, like the core and the writer; disks take their time.
fn work(random: &SeededRandom, member: &mut Member, meta: &mut Meta, jobs: &mut Vec<u64>) {
    while let Some(work) = member.work() {
        if let Some(about) = work.snapshot {
            (meta.applied, meta.applied_term) = (about.index, about.term);
            meta.members = about.conf_state.expect("members");
            member.installed(meta);
        }
        if let Some(last) = work.committed.last() {
            (meta.applied, meta.applied_term) = (last.index, last.term);
            member.applied(meta);
        }
        jobs.push(work.job.number);
        if random.below(3) > 0 {
            jobs.drain(..).for_each(|job| member.persisted(job));
        }
    }
}

#[test]
fn no_message_makes_the_library_panic() {
    let (mut taken, mut led) = (0, 0);
    for seed in 0..2000 {
        let random = SeededRandom::new(seed);
        let (mut member, mut meta) = member(&random, seed % 5 > 0);
        let mut jobs = vec![];
        for _ in 0..150 {
            let message = message(&random, &member);
            taken += u64::from(member.receive(message, &[5]).is_ok());
            if random.below(3) == 0 {
                member.tick();
            }
            if member.leads() {
                led += 1;
                let _ = member.propose(vec![vec![1; 50]]);
            }
            if random.below(3) > 0 {
                work(&random, &mut member, &mut meta, &mut jobs);
            }
        }
    }
    // A check that refuses everything would pass as well.
    assert!(
        taken > 25_000 && led > 2_500,
        "{taken} taken, {led} times leading"
    );
}

/// Ticks until a follower of member 2 asks whether it would be elected, after `happens`.
fn ticks_until_it_stands(happens: impl FnOnce(&mut Member)) -> usize {
    let (mut member, _) = member(&SeededRandom::new(1), true);
    let mut heartbeat = Message {
        from: 2,
        to: 1,
        term: member.term(),
        ..Message::default()
    };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    member.receive(heartbeat, &[]).expect("a sign of life");
    assert_eq!(member.leader(), Some(2));
    while member.work().is_some() {}
    happens(&mut member);
    let stands = |message: &Message| message.msg_type == MessageType::MsgRequestPreVote as i32;
    (1..100)
        .find(|_| {
            member.tick();
            std::iter::from_fn(|| member.work()).any(|work| work.job.messages.iter().any(stands))
        })
        .expect("an election")
}

#[test]
fn who_sees_the_leader_hang_up_stands_at_once() {
    assert!(ticks_until_it_stands(|_| {}) >= ELECTION_TICKS);
    assert!(ticks_until_it_stands(|member| member.hung_up(3)) >= ELECTION_TICKS);
    assert_eq!(ticks_until_it_stands(|member| member.hung_up(2)), 1);
}

/// Delivers all messages between three members until there are none; how many that were.
fn deliver(group: &mut [(Member, Meta)]) -> usize {
    let mut count = 0;
    loop {
        let mut mail = vec![];
        for (member, meta) in group.iter_mut() {
            while let Some(work) = member.work() {
                if let Some(last) = work.committed.last() {
                    (meta.applied, meta.applied_term) = (last.index, last.term);
                    member.applied(meta);
                }
                member.persisted(work.job.number);
                mail.extend(work.messages.into_iter().chain(work.job.messages));
            }
        }
        if mail.is_empty() {
            return count;
        }
        count += mail.len();
        for message in mail {
            let to = &mut group[message.to as usize - 1].0;
            to.receive(message, &[]).expect("a sound message");
        }
    }
}

/// Three members, of which the first leads and has told all that is committed.
fn led_group() -> Vec<(Member, Meta)> {
    let random = SeededRandom::new(7);
    let mut group: Vec<_> = (1..=3).map(|id| member_of_three(&random, id)).collect();
    while !group[0].0.settled() {
        group[0].0.tick();
        deliver(&mut group);
    }
    group[0].0.tell_commit();
    deliver(&mut group);
    group
}

#[test]
fn a_lone_write_costs_one_message_each_way() {
    let mut group = led_group();
    let write = |group: &mut Vec<(Member, Meta)>| {
        group[0].0.propose(vec![vec![1]]).expect("a leader");
        deliver(group)
    };
    let applied = |group: &[(Member, Meta)]| group.iter().map(|(_, meta)| meta.applied).collect::<Vec<_>>();
    let before = applied(&group)[0];
    assert_eq!(applied(&group), [before; 3]);
    assert_eq!(write(&mut group), 4, "one to each of two, and one back");
    assert_eq!(applied(&group), [before + 1, before, before]);
    assert_eq!(write(&mut group), 4, "and what was committed before goes with it");
    assert_eq!(applied(&group), [before + 2, before + 1, before + 1]);
    assert!(group[0].0.owes_word());
    group[0].0.tell_commit();
    assert!(!group[0].0.owes_word());
    deliver(&mut group);
    assert_eq!(applied(&group), [before + 2; 3]);

    // Somebody waits at a follower: it is told at once.
    group[0].0.hurry();
    assert_eq!(write(&mut group), 8);
    assert_eq!(applied(&group), [before + 3; 3]);
    assert_eq!(write(&mut group), 4, "it was about that one");
}
