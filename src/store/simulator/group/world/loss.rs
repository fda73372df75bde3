//! Two full servers and a witness, and what is asked of them: one machine may
//! be lost for good, disk and all, whatever the others were doing; what was
//! acknowledged is there all the same, and the two that are left go on.

use base::Random;

use super::super::machine::Machine;
use super::{Waiting, World, text};
use crate::command::Body;
use crate::membership::{Change, Peer, everybody};
use crate::plant::Plant;
use crate::status::Status;

/// At most so many machines ever.
const MACHINES_MAX: usize = 14;
/// Full members that the administrator wants.
const FULL: usize = 2;

impl World {
    /// One machine that is a group of its own, which another one and a witness will join.
    pub fn witnessed(seed: u64, plant: Option<Plant>) -> Result<World, String> {
        let mut world = World::alone(seed, plant)?;
        world.witnessed = true;
        world.grow_by(false)?;
        world.grow_by(true)?;
        Ok(world)
    }

    /// A machine is lost for good.
    pub(super) fn lose_one(&mut self) {
        if let Some(at) = self.expendable() {
            self.stop(at);
            self.lose(at);
        }
    }

    pub(super) fn stop(&mut self, at: usize) {
        if self.machines[at].process.is_some() {
            self.crash(at);
        }
    }

    /// A machine that has stopped is lost, disk and all.
    pub(super) fn lose(&mut self, at: usize) {
        (self.machines[at].gone, self.machines[at].lost) = (true, true);
        self.stats.lost += 1;
    }

    /// The voters and their leader, if the group can be expected to go on without any of them, which is seldom so.
    pub(super) fn dispensable(&self) -> Option<(Vec<u64>, usize)> {
        let leader = self.leader()?;
        let status = self.status(leader);
        let voters = &status.members.voters;
        let whole = voters
            .iter()
            .all(|id| self.find(*id).is_some_and(|at| !self.machines[at].gone));
        let process = self.machines[leader].process.as_ref();
        let changing = process.is_none_or(|process| process.core.changing());
        let fits = voters.len() >= 3 && whole && !changing && self.at_peace(&status);
        fits.then_some((status.members.voters, leader))
    }

    /// A voter that the group can be expected to go on without.
    pub(super) fn expendable(&self) -> Option<usize> {
        let (voters, leader) = self.dispensable()?;
        // Most often the one that the others need most: who is away lacks what it has.
        let away = |id: &u64| {
            self.find(*id)
                .is_some_and(|at| self.machines[at].process.is_none())
        };
        let needed = voters.iter().any(away);
        match self.random.below(2) {
            _ if needed => Some(leader),
            0 => Some(leader),
            _ => self.find(voters[self.random.below(voters.len() as u64) as usize]),
        }
    }

    /// Whether no change of the members is on its way or unsettled, and nobody leads in a later term.
    fn at_peace(&self, status: &Status) -> bool {
        let changing = |waiting: &Waiting| matches!(waiting, Waiting::Change(..));
        status.members.voters_outgoing.is_empty()
            && status.unsettled.is_empty()
            && status.leadership.term == self.term
            && !self.waiting.iter().any(changing)
            && !self.network.carries_change()
    }

    /// The administrator removes who is lost, and wants two full members and a witness.
    pub(super) fn administrate_witnessed(&mut self) -> Result<(), String> {
        let Some(at) = self.leader().or_else(|| self.serving()) else {
            return Ok(());
        };
        let status = self.status(at);
        let members = everybody(&status.members);
        let change = match (self.lost_member(&members), self.random.below(10)) {
            (Some(lost), _) => Some(Change::Remove(lost)),
            (None, 0..4) => self.one_of(&status.members.learners).map(Change::Promote),
            (None, 4..8) => self.wanted(&status)?.map(Change::Add),
            (None, 8) => self.one_of(&status.members.voters).map(Change::Lead),
            (None, _) if status.members.voters.len() > 2 && self.random.below(4) == 0 => {
                self.one_of(&status.members.voters).map(Change::Remove)
            }
            _ => None,
        };
        if let (Some(change), Some(process)) = (change, &mut self.machines[at].process) {
            let outcome = process.call(Body::Member(change), 0);
            self.waiting.push(Waiting::Change(outcome));
        }
        Ok(())
    }

    /// A member that is lost for good.
    pub(super) fn lost_member(&self, members: &[u64]) -> Option<u64> {
        let lost = |machine: &&Machine| machine.lost && members.contains(&machine.id);
        self.machines.iter().find(lost).map(|machine| machine.id)
    }

    fn one_of(&self, ids: &[u64]) -> Option<u64> {
        ids.get(self.random.below(ids.len() as u64) as usize).copied()
    }

    /// Whom the group lacks: a machine that is in no group yet.
    fn wanted(&mut self, status: &Status) -> Result<Option<Peer>, String> {
        let members = everybody(&status.members);
        let is_witness = |id: &u64| self.find(*id).is_some_and(|at| self.machines[at].witness);
        let witness = match members.iter().filter(|id| !is_witness(id)).count() {
            full if full < FULL => false,
            _ if !members.iter().any(is_witness) => true,
            _ => return Ok(None),
        };
        let free = |machine: &&Machine| {
            !machine.gone && machine.witness == witness && !members.contains(&machine.id)
        };
        if let Some(machine) = self.machines.iter().find(free) {
            return Ok(Some(machine.peer()));
        }
        if self.machines.len() < MACHINES_MAX {
            self.grow_by(witness)?;
        }
        Ok(None)
    }

    pub(super) fn grow_by(&mut self, witness: bool) -> Result<(), String> {
        let machine = Machine::new(&self.random, Some(self.cluster), witness, self.plants).map_err(text)?;
        self.machines.push(machine);
        Ok(())
    }
}
