//! What may be done with a witness in the group: a voter that keeps log and
//! votes, and no state.
//!
//! The witness lets go of entries that every full voter has, and begins without
//! those before it came. So whoever becomes a full voter later must have them
//! too: else a minority that is lost could take the only copy along.

use super::group::{Peer, Situation, everybody};

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
    use super::super::Change;
    use super::super::fixture::{Group, peer, witness};

    #[test]
    fn one_witness_for_two_full_servers() {
        let mut group = Group::with_witness();
        assert!(
            group
                .refusal(Change::Add(witness(8)))
                .contains("a witness already, n3")
        );
        let third = group.refusal(Change::Add(peer(8)));
        assert!(third.contains("with 3 full servers the witness n3 is not needed"));
        group.roster.peers.retain(|peer| peer.id != 3);
        let needless = group.refusal(Change::Add(witness(8)));
        assert!(needless.contains("for two full servers, and there are 4"));
        group.members.voters = vec![1, 2];
        group.members.learners.clear();
        assert_eq!(group.refusal(Change::Add(witness(8))), "");
    }

    #[test]
    fn it_is_never_handed_leadership() {
        let group = Group::with_witness();
        assert!(group.refusal(Change::Lead(3)).contains("never leads"));
        assert_eq!(group.refusal(Change::Lead(2)), "");
    }

    #[test]
    fn the_last_full_server_stays() {
        let mut group = Group::with_witness();
        assert_eq!(group.refusal(Change::Remove(2)), "");
        assert_eq!(group.refusal(Change::Remove(3)), "", "the witness may go");
        group.members.voters = vec![1, 3];
        assert!(group.refusal(Change::Remove(1)).contains("only full server"));
        group.members.voters = vec![1, 2, 3];
        group.health[2].active = false;
        let refused = group.refusal(Change::Remove(2));
        assert!(refused.contains("only 1 of 2 voters would be reachable"));
    }

    #[test]
    fn who_shall_count_has_what_the_witness_let_go() {
        let mut group = Group::with_witness();
        group.health[3].matched = 4980;
        let refused = group.refusal(Change::Promote(4));
        assert!(
            refused.contains("entry 4980") && refused.contains("up to 4990"),
            "{refused}"
        );
        group.members.voters = vec![1, 2, 3, 4];
        group.members.learners.clear();
        assert!(group.refusal(Change::Remove(2)).contains("member 4 is known"));
        // A witness that joins while a full server lacks what came before it.
        group.members.voters = vec![1, 2];
        group.members.learners = vec![3];
        group.health[1].matched = 4989;
        assert!(group.refusal(Change::Promote(3)).contains("member 2 is known"));
    }
}
