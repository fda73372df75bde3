//! Not being able to write: a full, read-only or failing disk under the log or
//! the state. Reads and watches go on; whoever waits for a write hears of it;
//! nothing is lost, since nothing was promised.
//!
//! In a group a member in this condition gives leadership away, and is to the
//! others like one whose connection loses most of what they send: it takes no
//! entries, votes or snapshots, and goes on hearing who leads.

use ::raft::eraftpb::{Message, MessageType};

use super::Core;
use crate::error::StoreError;
use crate::membership::heir;

impl Core {
    /// Takes no writes from now on, for this reason.
    pub fn suspend(&mut self, reason: &str) {
        self.suspended = Some(reason.to_owned());
        self.calls.suspend(reason);
        if !self.member.leads() || self.member.handing_over() {
            return;
        }
        if let Some(heir) = heir(
            &self.member.health(),
            &self.meta.members,
            &self.meta.roster.peers,
            self.meta.member,
        ) {
            self.member.hand_over(heir);
        }
    }

    /// Takes writes again.
    pub fn resume(&mut self) {
        self.suspended = None;
    }

    /// Why no writes are taken, while this is so.
    pub fn suspended(&self) -> Option<&str> {
        self.suspended.as_deref()
    }

    /// Whether the state has not taken what was applied; nothing is done meanwhile.
    pub fn stuck(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Hands the state once more what it did not take. Fails only for other
    /// reasons than the disk's.
    pub fn retry(&mut self) -> Result<(), StoreError> {
        if let Some(unwritten) = self.unwritten.take() {
            self.write_state(unwritten)?;
            self.release_reads();
        }
        Ok(())
    }

    /// Whether a message is about something that would have to be written.
    pub(super) fn cannot_take(&self, message: &Message) -> bool {
        let harmless = [
            MessageType::MsgHeartbeat,
            MessageType::MsgHeartbeatResponse,
            MessageType::MsgReadIndex,
            MessageType::MsgReadIndexResp,
            MessageType::MsgAppendResponse,
        ];
        self.unwritten.is_some()
            || self.suspended.is_some() && !harmless.iter().any(|kind| *kind as i32 == message.msg_type)
    }
}
