//! A duel: the one way to see whether votes are kept. Only if two members stand
//! in the same term, and a third votes for one, loses that vote and votes for the
//! other, a forgotten vote does harm; by chance alone that hardly ever happens.

use base::Random;

use super::World;

/// Ticks after which a member would vote for another than the leader it knew, and
/// after which any member stands for election itself.
const PATIENCE: usize = 8;
const PATIENCE_MAX: usize = 15;
/// Steps that a duel takes at most.
const STEPS: u64 = 60;
/// Of so many votes one is lost before its sync.
const ODDS: u64 = 12;
/// The same of votes that a duel is about.
const ODDS_WANTED: u64 = 2;
/// Steps for which a disk hangs at most, so that what follows a vote goes out, and is lost with it.
const HANGING: u64 = 24;

/// See the module. Machines by their place, and by their ids where the network is meant.
pub struct Duel {
    until: u64,
    /// Whose vote both want.
    voter: usize,
    /// Who stands first.
    first: u64,
    /// Who stands, in the same term, once the vote for the first is lost.
    second: usize,
}

impl World {
    /// The leader restarts, and the voter that lags most, and another loses patience; a second one will, if
    /// the first forgets its vote.
    pub(super) fn duel(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        let voters = self.status(leader).members.voters;
        self.crash(leader);
        self.start(leader)?;
        let mut able: Vec<usize> = (0..self.machines.len())
            .filter(|at| self.machines[*at].process.is_some() && voters.contains(&self.machines[*at].id))
            .collect();
        // Who lags votes for any of the others.
        able.sort_by_key(|at| self.status(*at).last_index);
        let [voter, ref others @ .., second, first] = able[..] else {
            return Ok(());
        };
        if voter != leader {
            self.crash(voter);
            self.start(voter)?;
        }
        // Whoever hears of a leader, or of the other first, would give way.
        self.network.lose_all();
        let ids = [first, second].map(|at| self.machines[at].id);
        self.part(ids[0], ids[1]);
        for (nth, at) in others.iter().enumerate() {
            self.lose_patience(*at, PATIENCE);
            self.part(ids[nth % 2], self.machines[*at].id);
        }
        self.lose_patience(first, PATIENCE_MAX);
        self.duel = Some(Duel {
            until: self.now + STEPS,
            voter,
            first: ids[0],
            second,
        });
        Ok(())
    }

    /// Of how many votes one is lost: the moment between a vote and its sync is short, so it is looked for.
    pub(super) fn vote_odds(&self, at: usize, vote: u64) -> u64 {
        match self.is_wanted(at, vote) {
            true => ODDS_WANTED,
            false => ODDS,
        }
    }

    /// A machine stops between a vote and its sync. In a duel it comes back at once, does not hear that the
    /// first has won by now, and is asked by the second.
    pub(super) fn lose_vote(&mut self, at: usize, vote: u64) -> Result<(), String> {
        let wanted = self.is_wanted(at, vote);
        self.crash(at);
        if !wanted && self.random.below(3) == 0 {
            return Ok(());
        }
        self.start(at)?;
        if let Some(duel) = self.duel.take_if(|_| wanted) {
            self.part(duel.first, self.machines[at].id);
            self.lose_patience(duel.second, PATIENCE_MAX);
        }
        Ok(())
    }

    /// A machine's disk does nothing any more, and the machine stops a while later.
    pub(super) fn hang(&mut self, at: usize, vote: u64) {
        let until = self.now + 1 + self.random.below(HANGING);
        self.machines[at].hangs = Some((until, vote));
    }

    /// Whether it is the vote that a duel is about.
    pub(super) fn is_wanted(&self, at: usize, vote: u64) -> bool {
        let duel = self.duel.as_ref().filter(|duel| self.now < duel.until);
        duel.is_some_and(|duel| (duel.voter, duel.first) == (at, vote))
    }

    fn part(&mut self, one: u64, two: u64) {
        self.network.cut(one, two);
        self.network.cut(two, one);
    }

    fn lose_patience(&mut self, at: usize, ticks: usize) {
        if let Some(process) = &mut self.machines[at].process {
            (0..ticks).for_each(|_| process.core.tick());
        }
    }
}
