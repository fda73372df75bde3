//! What may be done with a witness in the group: a voter that keeps log and
//! votes, and no state.
//!
//! The witness lets go of entries that every full voter has, and begins without
//! those before it came. So whoever becomes a full voter later must have them
//! too: else a minority that is lost could take the only copy along.

use super::{Peer, Situation, everybody};

/// With so many full servers or more a witness adds nothing.
const ENOUGH: usize = 3;

/// Whether `peer`, which is new, may join.
pub(super) fn may_add(peer: &Peer, now: &Situation) -> Result<(), String> {
    let full = full(everybody(now.members), now).count();
    match now.roster.witness() {
        Some(other) if peer.witness => Err(format!(
            "the group has a witness already, {}: remove it first if it will not come back",
            other.name
        )),
        None if peer.witness && full >= ENOUGH => Err(format!(
            "a witness is for two full servers, and there are {full}: it would add nothing"
        )),
        Some(other) if full >= ENOUGH => Err(format!(
            "with {full} full servers the witness {} is not needed any more: remove it before more join",
            other.name
        )),
        _ => Ok(()),
    }
}

/// Whether `id`, a learner that has caught up, may vote.
pub(super) fn may_promote(id: u64, now: &Situation) -> Result<(), String> {
    match now.roster.is_witness(id) {
        true => others_hold(id, now),
        false if now.roster.witness().is_some() => holds(id, now),
        false => Ok(()),
    }
}

/// Whether `id`, a voter, may go.
pub(super) fn may_remove(id: u64, now: &Situation) -> Result<(), String> {
    if now.roster.witness().is_none() || now.roster.is_witness(id) {
        return Ok(());
    }
    if full(now.members.voters.clone(), now).all(|voter| voter == id) {
        return Err(format!(
            "member {id:x} is the only full server: without it only the witness would be left, which has no state"
        ));
    }
    others_hold(id, now)
}

fn full<'a>(ids: Vec<u64>, now: &'a Situation) -> impl Iterator<Item = u64> + 'a {
    ids.into_iter().filter(|id| !now.roster.is_witness(*id))
}

fn others_hold(id: u64, now: &Situation) -> Result<(), String> {
    full(now.members.voters.clone(), now)
        .filter(|voter| *voter != id)
        .try_for_each(|voter| holds(voter, now))
}

/// Whether a full server has everything that the witness may lack.
fn holds(id: u64, now: &Situation) -> Result<(), String> {
    let matched = now
        .health
        .iter()
        .find(|health| health.id == id)
        .map_or(0, |health| health.matched);
    if matched >= now.forgotten {
        return Ok(());
    }
    Err(format!(
        "member {id:x} is known to have entry {matched}, and the witness does not keep those up to {}: wait until \
         it has caught up",
        now.forgotten
    ))
}

#[cfg(test)]
mod tests {
    use ::raft::eraftpb::ConfState;

    use super::super::{Change, Health, Roster, may_lead, plan};
    use super::*;

    struct Group {
        members: ConfState,
        roster: Roster,
        health: Vec<Health>,
        forgotten: u64,
    }

    fn peer(id: u64, witness: bool) -> Peer {
        Peer {
            id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:6443"),
            witness,
        }
    }

    /// Full voters 1 (leads) and 2, witness 3, and a full learner 4; all have everything.
    fn group() -> Group {
        let health = |id| Health {
            id,
            active: true,
            matched: 5000,
        };
        Group {
            members: ConfState {
                voters: vec![1, 2, 3],
                learners: vec![4],
                ..ConfState::default()
            },
            roster: Roster {
                peers: vec![peer(1, false), peer(2, false), peer(3, true), peer(4, false)],
                removed: vec![],
            },
            health: (1..=4).map(health).collect(),
            forgotten: 4990,
        }
    }

    fn refusal(group: &Group, change: Change) -> String {
        let now = Situation {
            members: &group.members,
            roster: &group.roster,
            leader: 1,
            health: &group.health,
            last_index: 5000,
            forgotten: group.forgotten,
        };
        let judged = match change {
            Change::Lead(id) => may_lead(id, &now),
            change => plan(&change, &now).map(drop),
        };
        judged.err().unwrap_or_default()
    }

    #[test]
    fn one_witness_for_two_full_servers() {
        let mut group = group();
        let add = |group: &Group, witness| refusal(group, Change::Add(peer(9, witness)));
        assert!(add(&group, true).contains("a witness already, n3"));
        assert!(add(&group, false).contains("with 3 full servers the witness n3 is not needed"));
        group.roster.peers.retain(|peer| peer.id != 3);
        assert!(add(&group, true).contains("for two full servers, and there are 4"));
        group.members.voters = vec![1, 2];
        group.members.learners.clear();
        assert_eq!(add(&group, true), "");
    }

    #[test]
    fn it_is_never_handed_leadership() {
        assert!(refusal(&group(), Change::Lead(3)).contains("never leads"));
        assert_eq!(refusal(&group(), Change::Lead(2)), "");
    }

    #[test]
    fn the_last_full_server_stays() {
        let mut group = group();
        assert_eq!(refusal(&group, Change::Remove(2)), "");
        assert_eq!(refusal(&group, Change::Remove(3)), "", "the witness may go");
        group.members.voters = vec![1, 3];
        assert!(refusal(&group, Change::Remove(1)).contains("only full server"));
        group.members.voters = vec![1, 2, 3];
        group.health[2].active = false;
        assert!(refusal(&group, Change::Remove(2)).contains("only 1 of 2 voters would be reachable"));
    }

    #[test]
    fn who_shall_count_has_what_the_witness_let_go() {
        let mut group = group();
        group.health[3].matched = 4980;
        let refused = refusal(&group, Change::Promote(4));
        assert!(
            refused.contains("entry 4980") && refused.contains("up to 4990"),
            "{refused}"
        );
        group.members.voters = vec![1, 2, 3, 4];
        group.members.learners.clear();
        assert!(refusal(&group, Change::Remove(2)).contains("member 4 is known"));
        // A witness that joins while a full server lacks what came before it.
        group.members.voters = vec![1, 2];
        group.members.learners = vec![3];
        group.health[1].matched = 4989;
        assert!(refusal(&group, Change::Promote(3)).contains("member 2 is known"));
    }
}
