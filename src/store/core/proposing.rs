//! Getting calls into the log: here, or by way of whoever leads.

use ::raft::eraftpb::ConfChangeV2;
use tokio::sync::oneshot;

use super::{ANNOUNCEMENT, Core};
use crate::call::Call;
use crate::calls::Target;
use crate::command::{Body, Command, Ticket};
use crate::error::StoreError;
use crate::membership::{self, Change, Peer, Situation};
use crate::parcel::{Forwarded, Parcel, Reply};
use crate::plant::Plant;

impl Core {
    /// Hands parked calls to whoever leads.
    pub(super) fn dispatch(&mut self) {
        if !self.calls.any_parked() {
            return;
        }
        match self.target() {
            Target::Nobody => {}
            Target::Here { term } => {
                let calls = self.calls.hand_over(term, !self.member.solitary());
                for (number, reply) in self.propose(calls) {
                    self.calls.returned(term, number, reply);
                }
            }
            Target::There { leader, term } => {
                let mut calls = self.calls.hand_over(term, true);
                let mark = self.mark_of_life();
                calls
                    .iter_mut()
                    .for_each(|call| call.number = call.number.wrapping_add(mark));
                if !calls.is_empty() {
                    self.outbox.push((leader, Parcel::Forward { term, calls }));
                }
            }
        }
    }

    /// What is added to the numbers of calls on their way. Each life counts them from the beginning, and a reply
    /// to one of an earlier life may still come: it must fit none of this one.
    pub(super) fn mark_of_life(&self) -> u64 {
        match self.habits.plants.has(Plant::AnyLife) {
            true => 0,
            false => self.habits.origin,
        }
    }

    pub(super) fn target(&self) -> Target {
        let term = self.member.term();
        match self.member.leader() {
            _ if self.suspended.is_some() || self.member.handing_over() => Target::Nobody,
            // Client's writes wait for a full server to lead.
            _ if self.member.leads() && self.habits.witness => Target::Nobody,
            _ if self.member.leads() => Target::Here { term },
            Some(leader) if leader != self.meta.member => Target::There { leader, term },
            _ => Target::Nobody,
        }
    }

    pub(super) fn propose_for(&mut self, term: u64, calls: Vec<Forwarded>) -> Vec<(u64, Reply)> {
        let fits = term == self.member.term() || self.habits.plants.has(Plant::AnyTerm);
        match self.target() {
            Target::Here { .. } if fits => {
                // Whoever asked there is answered when it is applied there.
                self.member.hurry();
                self.propose(calls)
            }
            _ => calls
                .into_iter()
                .map(|call| (call.number, Reply::NotLeader))
                .collect(),
        }
    }

    /// Puts calls into the log; returns those that did not get there.
    pub(super) fn propose(&mut self, calls: Vec<Forwarded>) -> Vec<(u64, Reply)> {
        let (changes, writes): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.membership);
        let (mut data, mut numbers) = (Vec::with_capacity(writes.len()), Vec::with_capacity(writes.len()));
        for call in writes {
            data.push(call.data);
            numbers.push(call.number);
        }
        let mut replies = vec![];
        if let Err(error) = if data.is_empty() {
            Ok(())
        } else {
            self.member.propose(data)
        } {
            let reply = reply(error);
            replies.extend(numbers.into_iter().map(|number| (number, reply.clone())));
        }
        for call in changes {
            replies.extend(self.propose_change(call.data).map(|reply| (call.number, reply)));
        }
        replies
    }

    /// Judges a change of the group and puts it into the log; says what became
    /// of it unless it is there.
    pub(super) fn propose_change(&mut self, data: Vec<u8>) -> Option<Reply> {
        let Ok(Command {
            body: Body::Member(change),
            ..
        }) = Command::decode(data.clone().into())
        else {
            return Some(Reply::Refused("it is not a change of the members".into()));
        };
        let health = self.member.health();
        let now = Situation {
            members: &self.meta.members,
            roster: &self.meta.roster,
            leader: self.meta.member,
            health: &health,
            last_index: self.member.last_index(),
            forgotten: self.forgotten(),
        };
        if let Change::Lead(to) = change {
            let judged = membership::may_lead(to, &now);
            if judged.is_ok() {
                self.member.hand_over(to);
            }
            return Some(judged.map_or_else(Reply::Refused, |()| Reply::Begun));
        }
        match membership::plan(&change, &now) {
            Err(reason) => Some(Reply::Refused(reason)),
            Ok(planned) => {
                let planned = ConfChangeV2 {
                    context: data,
                    ..planned
                };
                self.member.propose_change(planned).err().map(reply)
            }
        }
    }

    pub(super) fn command(&self, number: u64, now_ms: u64, body: Body) -> Vec<u8> {
        let ticket = Ticket {
            origin: self.habits.origin,
            number,
        };
        Command { ticket, now_ms, body }.encode()
    }

    /// Tells the group where this member is, if it does not know. Alone it has nobody to tell.
    pub(super) fn announce(&mut self, now_ms: u64) {
        if self.suspended.is_some() || self.member.solitary() {
            return;
        }
        let here = &self.habits.here;
        let known = self.meta.roster.peer(self.meta.member);
        let busy = self.announcing.as_mut().is_some_and(|answer| {
            answer
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        });
        let needed = !here.address.is_empty()
            && known.is_none_or(|known| (&known.name, &known.address) != (&here.name, &here.address));
        if busy || !needed || !self.member.knows(self.meta.member) {
            return;
        }
        let peer = Peer {
            id: self.meta.member,
            ..here.clone()
        };
        let (answer, announcing) = oneshot::channel();
        self.announcing = Some(announcing);
        let data = self.command(ANNOUNCEMENT, now_ms, Body::Announce(peer));
        self.calls.add(Call {
            number: ANNOUNCEMENT,
            membership: false,
            data,
            answer,
        });
    }
}

fn reply(error: StoreError) -> Reply {
    match error {
        StoreError::NotLeader { .. } => Reply::NotLeader,
        StoreError::Membership(reason) => Reply::Refused(reason),
        _ => Reply::Overloaded,
    }
}
