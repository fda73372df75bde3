//! What must be true: at every step of a history, and when everything has come to rest.

use super::super::machine::Machine;
use super::{Stats, Waiting, World, text};
use crate::error::StoreError;
use crate::types::ListQuery;
use crate::watch::Watch;

/// Steps in which everything must have come to rest, once nothing fails any more.
const REST_STEPS: u64 = 3000;

/// Later than any clock ever was.
const AGES_MS: u64 = 1 << 36;

fn sorted(members: &::raft::eraftpb::ConfState) -> [Vec<u64>; 2] {
    [&members.voters, &members.learners].map(|ids| {
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids
    })
}

impl World {
    /// Mends everything, lets all come to rest and compares the whole.
    pub fn finish(mut self) -> Result<Stats, String> {
        // What is left of a duel would cut connections again.
        self.duel = None;
        self.network.heal();
        // What nobody could do without is read after all.
        self.machines.iter().for_each(|machine| machine.memory.recover());
        // What has a time goes now, whatever clock it was reckoned by.
        let clocks = self.machines.iter_mut().map(|machine| &mut machine.skew_ms);
        clocks.for_each(|skew_ms| *skew_ms = AGES_MS);
        for _ in 0..REST_STEPS {
            for at in 0..self.machines.len() {
                self.start(at)?;
            }
            self.pass()?;
            if self.now.is_multiple_of(8) && self.at_rest() {
                break;
            }
        }
        let leader = self.leader().map(|at| self.status(at));
        let leader = leader.ok_or_else(|| {
            format!(
                "there is no leader, though nothing fails any more:\n{}",
                self.machines().join("\n")
            )
        })?;
        let members = leader.members;
        if !members.voters_outgoing.is_empty() || !leader.unsettled.is_empty() {
            return Err("a change of the members never ends".into());
        }
        let voters = members.voters.clone();
        let left = self.clients.entries();
        for machine in self
            .machines
            .iter()
            .filter(|machine| voters.contains(&machine.id) && !machine.lost)
        {
            let process = machine.process.as_ref().ok_or("a voter has stopped")?;
            // Raft keeps them in no order.
            if sorted(&process.core.status().members) != sorted(&members) {
                return Err(format!("{:x} thinks that others are in the group", machine.id));
            }
            if machine.witness {
                continue;
            }
            let position = process.cache.position();
            if position.revision != self.clients.revision() {
                let (here, all) = (position.revision, self.clients.revision());
                return Err(format!("member {:x} is at {here} and not at {all}", machine.id));
            }
            if process.cache.list(&ListQuery::default()).entries != left {
                return Err(format!(
                    "the cache of {:x} differs from what the events make",
                    machine.id
                ));
            }
            if process.state.load().ok() != Some(left.clone()) {
                return Err(format!(
                    "the state of {:x} differs from what the events make",
                    machine.id
                ));
            }
        }
        if self
            .waiting
            .iter()
            .any(|w| matches!(w, Waiting::Write(at, ..) if voters.contains(&self.machines[*at].id)))
        {
            return Err("a write is never answered".into());
        }
        if self.clients.has_timed() {
            return Err("an entry outlives its time".into());
        }
        self.follow_all()?;
        self.clients.check()?;
        self.stats.batches = self.clients.batches();
        self.stats.expired = self.clients.timed_out();
        Ok(self.stats)
    }

    /// What a person wants to know of each machine.
    fn machines(&self) -> Vec<String> {
        let one = |at: usize| {
            let (machine, status) = (&self.machines[at], self.status(at));
            let fate = match (&machine.process, machine.lost, machine.gone) {
                (_, true, _) => "is lost",
                (_, _, true) => "was removed",
                (Some(_), ..) => "runs",
                _ => "has stopped",
            };
            format!(
                "{:x} {fate}: term {}, entries up to {}, of which {} are committed, voters {:x?}, joint with {:x?}, learners \
                 {:x?}, unsettled {:x?}",
                machine.id,
                status.leadership.term,
                status.last_index,
                status.committed,
                status.members.voters,
                status.members.voters_outgoing,
                status.members.learners,
                status.unsettled
            )
        };
        (0..self.machines.len()).map(one).collect()
    }

    /// Nobody leads in a term in which somebody else was seen to lead.
    pub(super) fn watch_leadership(&mut self, at: usize) -> Result<(), String> {
        let (id, now) = (self.machines[at].id, self.leads(at));
        if now.leader != Some(id) {
            return Ok(());
        }
        let before = self.leaders.insert(now.term, id);
        if before.is_none() && self.machines[at].witness {
            self.stats.witnessed += 1;
            self.stats.needless += u64::from(self.needless(at));
        }
        match before {
            Some(other) if other != id => Err(format!("{id:x} and {other:x} lead in term {}", now.term)),
            _ => Ok(()),
        }
    }

    /// Whether a full voter that runs has all that a witness has, which has just been elected.
    fn needless(&self, witness: usize) -> bool {
        let status = self.status(witness);
        let full = |machine: &&Machine| !machine.witness && status.members.voters.contains(&machine.id);
        self.machines.iter().filter(full).any(|machine| {
            let process = machine.process.as_ref();
            // One entry is the witness's own, with which its term begins.
            process.is_some_and(|process| process.core.status().last_index + 1 >= status.last_index)
        })
    }

    /// Takes in the events that a machine shows.
    pub(super) fn watch_master(&mut self, at: usize) -> Result<(), String> {
        let machine = &mut self.machines[at];
        if machine.witness {
            return Ok(());
        }
        let Some(process) = &mut machine.process else {
            return Ok(());
        };
        while let Some(event) = process.master.try_next() {
            match event {
                Ok(event) if event.revision != machine.seen + 1 => {
                    return Err(format!(
                        "member {:x} shows {} after {}",
                        machine.id, event.revision, machine.seen
                    ));
                }
                Ok(event) => {
                    self.clients
                        .see(&event, self.now)
                        .map_err(|error| format!("member {:x}: {error}", machine.id))?;
                    machine.seen = event.revision;
                }
                // A snapshot has jumped over what is compacted.
                Err(StoreError::Compacted { oldest }) if oldest > machine.seen => {
                    machine.seen = oldest;
                    process.master =
                        Watch::new(process.cache.clone(), process.old.clone(), "", oldest).map_err(text)?;
                }
                // Nobody sees there what was in between; others show it.
                Err(error @ StoreError::Damaged { .. }) => {
                    let revision = process.cache.position().revision;
                    machine.seen = revision;
                    process.master =
                        Watch::new(process.cache.clone(), process.old.clone(), "", revision).map_err(text)?;
                    return self.complain(at, error);
                }
                Err(error) => return Err(format!("the watch of {:x} failed: {error}", machine.id)),
            }
        }
        let (progress, revision) = (process.master.progress(), process.cache.position().revision);
        if progress < revision || machine.seen < revision {
            return Err(format!(
                "the watch of {:x} has {} of {revision} events",
                machine.id, machine.seen
            ));
        }
        match self.clients.is_whole(revision) {
            true => Ok(()),
            false => Err(format!(
                "{:x} shows a part of a commit, up to {revision}",
                machine.id
            )),
        }
    }

    /// Whether all voters have everything and nobody waits.
    fn at_rest(&self) -> bool {
        if !self.waiting.is_empty() || self.clients.has_timed() {
            return false;
        }
        let Some(leader) = self.leader() else { return false };
        let status = self.status(leader);
        let voters = self
            .machines
            .iter()
            .filter(|machine| status.members.voters.contains(&machine.id) && !machine.lost);
        let there = |machine: &Machine| {
            machine
                .process
                .as_ref()
                .is_some_and(|p| p.core.suspended().is_none() && p.core.status().applied >= status.last_index)
        };
        let changed = status.members.voters_outgoing.is_empty() && status.unsettled.is_empty();
        changed && voters.into_iter().all(there)
    }
}
