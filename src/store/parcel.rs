//! What members send each other.

use ::raft::eraftpb::Message;

/// One thing on its way to another member. May be lost, and Raft's messages
/// may come late, out of order or twice; a forwarded call comes once at most.
#[derive(Clone, Debug, PartialEq)]
pub enum Parcel {
    /// Raft's.
    Raft(Box<Message>),
    /// Calls for the leader, which it proposes if it still leads in this term.
    Forward {
        /// The term that makes the sender think that the receiver leads.
        term: u64,
        /// The calls.
        calls: Vec<Forwarded>,
    },
    /// What became of forwarded calls that did not get into the log.
    Returned {
        /// The term in which they were to be proposed.
        term: u64,
        /// By number.
        replies: Vec<(u64, Reply)>,
    },
    /// The receiver was removed from the group.
    Removed,
}

impl Parcel {
    /// About how many bytes of data it carries.
    pub fn weight(&self) -> usize {
        match self {
            Parcel::Raft(message) => message.entries.iter().map(|entry| entry.data.len()).sum(),
            Parcel::Forward { calls, .. } => calls.iter().map(|call| call.data.len()).sum(),
            Parcel::Returned { .. } | Parcel::Removed => 0,
        }
    }
}

/// A call on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Its number at the sender.
    pub number: u64,
    /// Whether it changes the group, so that the leader must judge it.
    pub membership: bool,
    /// The encoded command.
    pub data: Vec<u8>,
}

/// Why a call did not get into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done without the log: the leader has begun to hand over.
    Begun,
    /// The receiver does not lead in that term.
    NotLeader,
    /// The receiver has too much under way.
    Overloaded,
    /// The change of the members must not be made.
    Refused(String),
}
