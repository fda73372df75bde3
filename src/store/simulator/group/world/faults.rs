//! What goes wrong, and what the administrator does.

use base::{Random, SeededRandom};

use super::super::super::disk::TROUBLES;
use super::{MACHINES_MAX, Waiting, World};
use crate::command::Body;
use crate::membership::{Change, Peer, everybody};

impl World {
    pub(super) fn upkeep(&mut self) {
        if let Some(at) = self.running() {
            self.machines[at].upkeep();
        }
    }

    pub(super) fn compact(&mut self) {
        let Some(at) = self.serving() else { return };
        let revision = self.random.below(self.clients.revision() + 1);
        if let Some(process) = &mut self.machines[at].process {
            drop(process.call(Body::Compact(revision), 0));
        }
    }

    /// A wall clock jumps, by months perhaps, forward or back.
    pub(super) fn jump_one(&mut self) {
        if let Some(at) = self.running() {
            self.machines[at].skew_ms = self.random.below(1 << 34);
        }
    }

    pub(super) fn crash_one(&mut self) {
        if let Some(at) = self.running() {
            self.crash(at);
        }
    }

    /// A machine will stop again and again, each time when it has just been asked something.
    pub(super) fn trip_one(&mut self) {
        if let Some(at) = self.serving() {
            self.machines[at].stumbles = 2 + self.random.below(3);
            self.crash(at);
        }
    }

    /// It is asked, for what will be refused too, and stops but for the last time.
    pub(super) fn stumble(&mut self, at: usize) -> Result<(), String> {
        self.machines[at].stumbles -= 1;
        for _ in 0..1 + self.random.below(3) {
            let id = self.machines[at].id;
            match &mut self.machines[at].process {
                Some(process) if self.random.below(2) == 0 => {
                    let outcome = process.call(Body::Member(Change::Promote(id)), 0);
                    self.waiting.push(Waiting::Change(outcome));
                }
                _ => self.write_at(at),
            }
        }
        // Nobody is answered at the moment at which he asks.
        self.now += 1;
        self.pump(at)?;
        if self.machines[at].stumbles > 0 {
            self.crash(at);
        }
        self.start(at)
    }

    pub(super) fn burn_one(&mut self) {
        if let Some(at) = self.running() {
            self.machines[at].disk.light_fuse(self.random.below(6));
        }
    }

    /// A disk takes nothing for a while, below the log or below the state.
    pub(super) fn trouble_one(&mut self) {
        let Some(at) = self.running() else { return };
        let trouble = TROUBLES[self.random.below(4) as usize];
        let times = 1 + self.random.below(30);
        match self.random.below(3) {
            0 => self.machines[at].memory.refuse(times),
            _ => self.machines[at].disk.trouble(trouble, times),
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.stats.crashes += 1;
        // Connections end with the process.
        let connected = self
            .followers
            .iter_mut()
            .filter(|follower| follower.at == Some(at));
        connected.for_each(|follower| follower.at = None);
        let id = self.machines[at].id;
        self.network.break_off(id);
        self.machines[at].crash(&self.random);
        self.hang_up(id);
    }

    /// Some notice that a connection has ended, others do not.
    pub(super) fn hang_up(&mut self, id: u64) {
        for machine in self.machines.iter_mut().filter(|machine| machine.id != id) {
            if let (Some(process), true) = (&mut machine.process, self.random.below(2) == 0) {
                process.core.hung_up(id);
            }
        }
    }

    /// Connections end for no reason.
    pub(super) fn hang_up_one(&mut self) {
        if let Some(at) = self.running() {
            self.hang_up(self.machines[at].id);
        }
    }

    pub(super) fn boot_one(&mut self) -> Result<(), String> {
        self.start(self.random.below(self.machines.len() as u64) as usize)
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let machine = &mut self.machines[at];
        if machine.process.is_some() || machine.gone {
            return Ok(());
        }
        let booted = machine.boot(&self.random);
        booted.or_else(|error| self.complain(at, error))
    }

    pub(super) fn cut_one(&mut self) {
        let a = self.machines[self.random.below(self.machines.len() as u64) as usize].id;
        let one_way = self.random.below(2) == 0;
        for b in self.machines.iter().map(|machine| machine.id).filter(|b| *b != a) {
            if self.random.below(3) > 0 {
                self.network.cut(a, b);
                if !one_way {
                    self.network.cut(b, a);
                }
            }
        }
    }

    /// The administrator changes the group, most often towards three to five voters.
    pub(super) fn administrate(&mut self) -> Result<(), String> {
        let Some(at) = self.leader().or_else(|| self.running()) else {
            return Ok(());
        };
        let members = self.status(at).members;
        let pick =
            |ids: &[u64], random: &SeededRandom| ids.get(random.below(ids.len() as u64) as usize).copied();
        let lost = self.lost_member(&everybody(&members));
        let room = self.machines.iter().filter(|machine| !machine.lost).count() < MACHINES_MAX;
        let change = match self.random.below(10) {
            // First of all: for a moment the leader may still count on it, and let another one go.
            _ if lost.is_some() => lost.map(Change::Remove),
            0..4 => pick(&members.learners, &self.random).map(Change::Promote),
            4..6 => self.joiner(&members).map(Change::Add),
            6 => pick(&members.voters, &self.random).map(Change::Lead),
            7 if members.voters.len() > 2 => pick(&members.voters, &self.random).map(Change::Remove),
            8 if room && members.voters.len() < 5 => return self.grow(),
            _ => None,
        };
        // Sometimes by way of another server.
        let at = if self.random.below(3) == 0 {
            self.running().unwrap_or(at)
        } else {
            at
        };
        if let (Some(change), Some(process)) = (change, &mut self.machines[at].process) {
            let outcome = process.call(Body::Member(change), 0);
            self.waiting.push(Waiting::Change(outcome));
        }
        Ok(())
    }

    /// A machine that is in no group yet.
    pub(super) fn joiner(&self, members: &::raft::eraftpb::ConfState) -> Option<Peer> {
        let known = everybody(members);
        let machine = self
            .machines
            .iter()
            .find(|machine| !machine.gone && !known.contains(&machine.id))?;
        Some(machine.peer())
    }

    pub(super) fn grow(&mut self) -> Result<(), String> {
        self.grow_by(false)
    }
}
