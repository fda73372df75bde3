//! The check that every message passes before Raft sees it. The library panics
//! where it sees what cannot be; a peer with a bug, or a folder from which
//! somebody took something, must not stop the others. Pure.

use ::raft::StateRole;
use ::raft::eraftpb::{EntryType, Message, MessageType};

use crate::membership::sound;

/// Terms beyond this are nonsense: adding to them must never overflow.
const TERM_MAX: u64 = 1 << 60;

/// What this member knows when the message comes.
pub struct Standing<'a> {
    /// This member's id.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// Its role.
    pub role: StateRole,
    /// It knows who is in the group; a member that is about to join does not.
    pub joined: bool,
    /// The last entry that is certainly committed.
    pub committed: u64,
    /// The last entry of the log.
    pub last: u64,
    /// The last entry that is durable here.
    pub persisted: u64,
    /// Whether an id belongs to the group.
    pub knows: &'a dyn Fn(u64) -> bool,
    /// Ids that were removed from the group.
    pub removed: &'a [u64],
    /// The term of an entry, 0 if it is not here (any more).
    pub term_of: &'a dyn Fn(u64) -> u64,
}

/// Refuses a message that Raft must not see, with the reason.
pub fn check(message: &Message, here: &Standing) -> Result<(), &'static str> {
    let kind = MessageType::from_i32(message.msg_type).ok_or("it is of an unknown kind")?;
    check_sender(message, here)?;
    match kind {
        MessageType::MsgReadIndex if message.term != 0 => return Err("it asks for an index in a term"),
        MessageType::MsgReadIndex => {}
        _ if message.term == 0 => return Err("it has no term"),
        _ if message.term > TERM_MAX => return Err("its term is impossible"),
        _ => {}
    }
    match kind {
        MessageType::MsgAppend => check_append(message, here),
        MessageType::MsgSnapshot => check_snapshot(message, here),
        MessageType::MsgHeartbeat if message.commit > here.last => {
            Err("it commits entries that are not here")
        }
        MessageType::MsgAppendResponse => check_append_response(message, here),
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
            if here.persisted < here.last && here.role != StateRole::Leader && message.term >= here.term =>
        {
            Err("it answers a question that was not asked yet")
        }
        // Leadership is handed only to who has said that it has everything.
        MessageType::MsgTimeoutNow if here.persisted < here.last => {
            Err("it hands over leadership, but not everything is durable here")
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            Err("it must have one entry")
        }
        MessageType::MsgReadIndex if here.role != StateRole::Leader => Err("it asks one that does not lead"),
        MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => Ok(()),
        // Raft's messages to itself, proposals (which travel otherwise) and
        // requests to lead (which an administrator makes).
        _ => Err("it is of a kind that is never sent"),
    }
}

fn check_sender(message: &Message, here: &Standing) -> Result<(), &'static str> {
    let from = message.from;
    match () {
        () if message.to != here.id => Err("it is for another member"),
        () if from == 0 || from == here.id => Err("it says that it comes from here"),
        () if here.removed.contains(&from) => Err("its sender was removed from the group"),
        // Who has been away for long may not know a new member that leads or
        // asks for its vote; but it has asked that one nothing.
        () if is_answer(message) && !(here.knows)(from) => Err("it answers, but was not asked"),
        () => Ok(()),
    }
}

fn is_answer(message: &Message) -> bool {
    matches!(
        MessageType::from_i32(message.msg_type),
        Some(
            MessageType::MsgAppendResponse
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVoteResponse
        )
    )
}

fn check_append(message: &Message, here: &Standing) -> Result<(), &'static str> {
    if !here.joined {
        // Its members are in no entry, so it must begin with a snapshot. It
        // says so by refusing; only what would be taken is dropped.
        if message.index == 0 {
            return Err("a member that is not in the group yet cannot begin with entries");
        }
    }
    if message.index > 0 && message.log_term == 0 {
        // Raft says of entries that are not here that their term is 0.
        return Err("it follows an entry without a term");
    }
    let mut before = (message.index, message.log_term);
    for entry in &message.entries {
        if Some(entry.index) != before.0.checked_add(1) || entry.term < before.1 || entry.term > message.term
        {
            return Err("its entries are not in order");
        }
        if entry.term == 0 {
            // Raft would take it for one that is here, since what is not has term 0.
            return Err("it has an entry without a term");
        }
        let kind = EntryType::from_i32(entry.entry_type);
        if !matches!(kind, Some(EntryType::EntryNormal | EntryType::EntryConfChangeV2)) {
            return Err("it has an entry of an unknown kind");
        }
        let ours = (here.term_of)(entry.index);
        if entry.index <= here.committed && ours != 0 && ours != entry.term {
            return Err("it contradicts what is committed");
        }
        before = (entry.index, entry.term);
    }
    Ok(())
}

fn check_snapshot(message: &Message, here: &Standing) -> Result<(), &'static str> {
    let about = message
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.metadata.as_ref());
    let about = about.ok_or("its snapshot says nothing about itself")?;
    if about.index == 0 || about.index >= u64::MAX / 2 || about.term == 0 || about.term > message.term {
        return Err("its snapshot is of no possible moment");
    }
    if !about.conf_state.as_ref().is_some_and(sound) {
        return Err("its snapshot has impossible members");
    }
    let ours = (here.term_of)(about.index);
    if about.index <= here.committed && ours != 0 && ours != about.term {
        return Err("its snapshot contradicts what is committed");
    }
    Ok(())
}

fn check_append_response(message: &Message, here: &Standing) -> Result<(), &'static str> {
    if here.role == StateRole::Leader && message.term == here.term && message.index > here.last {
        return Err("it acknowledges entries that were never sent");
    }
    if message.reject && message.reject_hint > message.index {
        return Err("it refuses with an impossible hint");
    }
    if message.request_snapshot != 0 {
        return Err("it asks for a snapshot, which members never do");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::raft::eraftpb::{ConfState, Entry, Snapshot, SnapshotMetadata};

    fn judge(message: Message) -> Result<(), &'static str> {
        let standing = Standing {
            id: 1,
            term: 5,
            role: StateRole::Leader,
            joined: true,
            committed: 10,
            last: 12,
            persisted: 12,
            knows: &|id| id == 2 || id == 3,
            removed: &[9],
            term_of: &|index| if (5..=12).contains(&index) { 4 } else { 0 },
        };
        check(&message, &standing)
    }

    fn message(kind: MessageType) -> Message {
        let mut message = Message {
            from: 2,
            to: 1,
            term: 5,
            ..Message::default()
        };
        message.set_msg_type(kind);
        message
    }

    #[test]
    fn senders_are_checked() {
        let vote = || message(MessageType::MsgRequestVote);
        assert!(judge(vote()).is_ok());
        assert!(judge(Message { to: 3, ..vote() }).is_err());
        assert!(judge(Message { from: 1, ..vote() }).is_err());
        assert!(judge(Message { from: 9, ..vote() }).is_err(), "removed");
        assert!(
            judge(Message { from: 7, ..vote() }).is_ok(),
            "new members may ask"
        );
        let answer = message(MessageType::MsgHeartbeatResponse);
        assert!(judge(Message { from: 7, ..answer }).is_err(), "but not answer");
    }

    #[test]
    fn messages_without_a_term_would_count_in_every_term() {
        for kind in [
            MessageType::MsgAppend,
            MessageType::MsgRequestVote,
            MessageType::MsgReadIndexResp,
        ] {
            assert!(
                judge(Message {
                    term: 0,
                    ..message(kind)
                })
                .is_err()
            );
            assert!(
                judge(Message {
                    term: u64::MAX,
                    ..message(kind)
                })
                .is_err()
            );
        }
    }

    #[test]
    fn only_what_peers_send_is_taken() {
        for kind in [
            MessageType::MsgHup,
            MessageType::MsgBeat,
            MessageType::MsgPropose,
            MessageType::MsgTransferLeader,
            MessageType::MsgSnapStatus,
            MessageType::MsgUnreachable,
            MessageType::MsgCheckQuorum,
        ] {
            assert!(judge(message(kind)).is_err(), "{kind:?}");
        }
        assert!(
            judge(Message {
                msg_type: 99,
                ..message(MessageType::MsgHup)
            })
            .is_err()
        );
    }

    #[test]
    fn entries_follow_each_other_and_never_contradict() {
        let entry = |index, term| Entry {
            index,
            term,
            ..Entry::default()
        };
        let append = |index, log_term, entries: &[Entry]| {
            judge(Message {
                index,
                log_term,
                entries: entries.to_vec(),
                ..message(MessageType::MsgAppend)
            })
        };
        assert!(append(12, 4, &[entry(13, 4), entry(14, 5)]).is_ok());
        assert!(append(12, 4, &[entry(14, 5)]).is_err(), "a gap");
        assert!(append(12, 4, &[entry(13, 3)]).is_err(), "an older term");
        assert!(append(12, 4, &[entry(13, 6)]).is_err(), "a term to come");
        assert!(append(9, 4, &[entry(10, 5)]).is_err(), "committed otherwise");
        assert!(append(0, 0, &[entry(1, 0)]).is_err(), "an entry without a term");
        let strange = Entry {
            entry_type: 1,
            ..entry(13, 4)
        };
        assert!(append(12, 4, &[strange]).is_err(), "an old sort of change");
    }

    #[test]
    fn snapshots_need_a_moment_and_members() {
        let snapshot = |index, term, voters: Vec<u64>| {
            let conf_state = Some(ConfState {
                voters,
                ..ConfState::default()
            });
            let metadata = Some(SnapshotMetadata {
                index,
                term,
                conf_state,
            });
            judge(Message {
                snapshot: Some(Snapshot {
                    metadata,
                    ..Snapshot::default()
                }),
                ..message(MessageType::MsgSnapshot)
            })
        };
        assert!(snapshot(20, 5, vec![1, 2]).is_ok());
        assert!(snapshot(0, 5, vec![1, 2]).is_err());
        assert!(snapshot(20, 6, vec![1, 2]).is_err());
        assert!(snapshot(20, 5, vec![]).is_err());
        assert!(
            snapshot(10, 5, vec![1, 2]).is_err(),
            "committed with another term"
        );
        assert!(judge(message(MessageType::MsgSnapshot)).is_err(), "nothing in it");
    }

    #[test]
    fn answers_fit_the_question() {
        let answer = message(MessageType::MsgAppendResponse);
        assert!(
            judge(Message {
                index: 12,
                ..answer.clone()
            })
            .is_ok()
        );
        assert!(
            judge(Message {
                index: 13,
                ..answer.clone()
            })
            .is_err()
        );
        let refused = Message {
            reject: true,
            index: 8,
            ..answer
        };
        assert!(
            judge(Message {
                reject_hint: 8,
                ..refused.clone()
            })
            .is_ok()
        );
        assert!(
            judge(Message {
                reject_hint: u64::MAX,
                ..refused
            })
            .is_err()
        );
        let heartbeat = message(MessageType::MsgHeartbeat);
        assert!(
            judge(Message {
                commit: 13,
                ..heartbeat
            })
            .is_err()
        );
        assert!(judge(message(MessageType::MsgReadIndexResp)).is_err(), "no entry");
    }
}
