//! Who is in the group, and which changes of that are refused.
//!
//! A new member begins as a *learner*: it gets the log and counts for nothing.
//! Once it has caught up it is promoted to a *voter*, by joint consensus: until
//! the change is over, both the old and the new majority must agree to
//! everything. A removed id never comes back. What is different with a witness
//! is in `membership/witness.rs`.

use ::raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};

use crate::codec::{Malformed, Reader, put_bytes, put_number};

#[cfg(test)]
mod fixture;
mod group;
#[cfg(test)]
mod tests;
mod witness;

#[cfg(test)]
pub use group::everybody;
pub use group::{Change, Health, Peer, Roster, Situation, Whoami};

/// A learner may lack this many entries of the log and still be promoted.
const LAG_MAX: u64 = 1000;

/// The voter besides `leader` to whom leadership is best handed: it is no witness, was heard of lately, and
/// lacks least.
pub fn heir(health: &[Health], members: &ConfState, peers: &[Peer], leader: u64) -> Option<u64> {
    let witness = |id: u64| peers.iter().any(|peer| peer.id == id && peer.witness);
    let voters = health
        .iter()
        .filter(|member| member.active && member.id != leader && members.voters.contains(&member.id))
        .filter(|member| !witness(member.id));
    voters.max_by_key(|member| member.matched).map(|member| member.id)
}

/// Raft's change that carries out `change`, or why it must not be.
pub fn plan(change: &Change, now: &Situation) -> Result<ConfChangeV2, String> {
    if !now.members.voters_outgoing.is_empty() {
        return Err("another change of the members is under way: try again when it is done".into());
    }
    let (kind, id, transition) = match change {
        Change::Add(peer) => {
            may_add(peer, now)?;
            (
                ConfChangeType::AddLearnerNode,
                peer.id,
                ConfChangeTransition::Auto,
            )
        }
        Change::Promote(id) => {
            may_promote(*id, now)?;
            (ConfChangeType::AddNode, *id, ConfChangeTransition::Implicit)
        }
        Change::Remove(id) => {
            may_remove(*id, now)?;
            (ConfChangeType::RemoveNode, *id, ConfChangeTransition::Implicit)
        }
        Change::Lead(_) => return Err("handing over leadership is not a change of the members".into()),
    };
    let mut single = ConfChangeSingle {
        node_id: id,
        ..ConfChangeSingle::default()
    };
    single.set_change_type(kind);
    let mut planned = ConfChangeV2 {
        changes: vec![single],
        ..ConfChangeV2::default()
    };
    planned.set_transition(transition);
    Ok(planned)
}

/// Whether leadership may go to `id`.
pub fn may_lead(id: u64, now: &Situation) -> Result<(), String> {
    match () {
        () if !now.members.voters.contains(&id) => Err(format!("member {id:x} is not a voter")),
        () if now.roster.is_witness(id) => Err(format!("member {id:x} is a witness, which never leads")),
        () if !active(now, id) => Err(format!("member {id:x} has not been heard of lately")),
        () => Ok(()),
    }
}

fn may_add(peer: &Peer, now: &Situation) -> Result<(), String> {
    let id = peer.id;
    if id == 0 || now.roster.removed.contains(&id) {
        return Err(format!(
            "member {id:x} was removed; its folder must be emptied before it joins again"
        ));
    }
    if now.members.voters.contains(&id) || now.members.learners.contains(&id) {
        return Err(format!("member {id:x} is in the group already"));
    }
    let same = |other: &&Peer| other.name == peer.name || other.address == peer.address;
    match now.roster.peers.iter().find(same) {
        Some(other) => Err(format!(
            "member {:x} has the name {} and the address {} already: remove it first",
            other.id, other.name, other.address
        )),
        None => witness::may_add(peer, now),
    }
}

fn may_promote(id: u64, now: &Situation) -> Result<(), String> {
    if now.members.voters.contains(&id) {
        return Err(format!("member {id:x} is a voter already"));
    }
    if !now.members.learners.contains(&id) {
        return Err(format!("there is no member {id:x}"));
    }
    let matched = now.health.iter().find(|h| h.id == id).map_or(0, |h| h.matched);
    if !active(now, id) || matched == 0 || matched + LAG_MAX < now.last_index {
        return Err(format!(
            "member {id:x} has not caught up: it has entry {matched} of {}",
            now.last_index
        ));
    }
    witness::may_promote(id, now)
}

fn may_remove(id: u64, now: &Situation) -> Result<(), String> {
    if now.members.learners.contains(&id) {
        return Ok(());
    }
    if !now.members.voters.contains(&id) {
        return Err(format!("there is no member {id:x}"));
    }
    witness::may_remove(id, now)?;
    if id == now.leader {
        return Err(format!(
            "member {id:x} leads: hand leadership to another one first"
        ));
    }
    let left = now.members.voters.iter().filter(|voter| **voter != id);
    let (mut count, mut alive) = (0, 0);
    for voter in left {
        count += 1;
        alive += usize::from(active(now, *voter));
    }
    let needed = count / 2 + 1;
    if alive < needed {
        return Err(format!(
            "without member {id:x} only {alive} of {count} voters would be reachable, and {needed} are needed \
             to go on: bring another one back first"
        ));
    }
    Ok(())
}

fn active(now: &Situation, id: u64) -> bool {
    id == now.leader || now.health.iter().any(|health| health.id == id && health.active)
}

/// Appends a peer's bytes, without what it is.
pub fn put_peer(out: &mut Vec<u8>, peer: &Peer) {
    put_number(out, peer.id);
    put_bytes(out, peer.name.as_bytes());
    put_bytes(out, peer.address.as_bytes());
}

/// Reads what [`put_peer`] wrote.
pub fn peer(reader: &mut Reader) -> Result<Peer, Malformed> {
    Ok(Peer {
        id: reader.number()?,
        name: reader.string()?,
        address: reader.string()?,
        witness: false,
    })
}

const ADD: u8 = 1;
const PROMOTE: u8 = 2;
const REMOVE: u8 = 3;
const LEAD: u8 = 4;
const ADD_WITNESS: u8 = 5;

/// Appends a change's bytes.
pub fn put_change(out: &mut Vec<u8>, change: &Change) {
    let (kind, id) = match change {
        Change::Add(peer) => {
            out.push(if peer.witness { ADD_WITNESS } else { ADD });
            return put_peer(out, peer);
        }
        Change::Promote(id) => (PROMOTE, id),
        Change::Remove(id) => (REMOVE, id),
        Change::Lead(id) => (LEAD, id),
    };
    out.push(kind);
    put_number(out, *id);
}

/// Reads what [`put_change`] wrote.
pub fn change(reader: &mut Reader) -> Result<Change, Malformed> {
    match reader.byte()? {
        ADD => Ok(Change::Add(peer(reader)?)),
        ADD_WITNESS => Ok(Change::Add(Peer {
            witness: true,
            ..peer(reader)?
        })),
        PROMOTE => Ok(Change::Promote(reader.number()?)),
        REMOVE => Ok(Change::Remove(reader.number()?)),
        LEAD => Ok(Change::Lead(reader.number()?)),
        _ => Err(Malformed("change of members has an unknown kind")),
    }
}

/// Whether Raft could work with these members; it panics on others.
pub fn sound(members: &ConfState) -> bool {
    let all = [
        &members.voters,
        &members.learners,
        &members.voters_outgoing,
        &members.learners_next,
    ];
    let unique = |ids: &Vec<u64>| {
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.len() == ids.len() && !ids.contains(&0)
    };
    let joint = !members.voters_outgoing.is_empty();
    let apart = |a: &[u64], b: &[u64]| a.iter().all(|id| !b.contains(id));
    !members.voters.is_empty()
        && all.into_iter().all(unique)
        && apart(&members.learners, &members.voters)
        && apart(&members.learners, &members.voters_outgoing)
        && apart(&members.learners_next, &members.voters)
        && apart(&members.learners_next, &members.learners)
        && members
            .learners_next
            .iter()
            .all(|id| members.voters_outgoing.contains(id))
        && (joint || !members.auto_leave)
}
