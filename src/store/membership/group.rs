//! Who is in a group, and how they are.

use ::raft::eraftpb::ConfState;

/// How many removed ids are remembered, so that these members can be told.
const REMOVED_MAX: usize = 1024;

/// A member, as the others find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its id, which is never used by another nor again.
    pub id: u64,
    /// Its name, for people.
    pub name: String,
    /// Where it listens, as the transport understands it.
    pub address: String,
    /// It keeps log and votes, and no state. Said when it is added, and never again.
    pub witness: bool,
}

/// Who this member is.
#[derive(Clone, Copy, Debug)]
pub struct Whoami {
    /// The group.
    pub cluster: u64,
    /// The member.
    pub member: u64,
}

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a learner.
    Add(Peer),
    /// Makes a learner a voter.
    Promote(u64),
    /// Removes a member, whatever it is.
    Remove(u64),
    /// Hands leadership to a voter.
    Lead(u64),
}

/// The members beside what Raft keeps of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Where members are, by id.
    pub peers: Vec<Peer>,
    /// Ids that were removed, the latest last.
    pub removed: Vec<u64>,
}

/// What the leader knows of a member at the moment of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whose health it is.
    pub id: u64,
    /// It was heard of lately.
    pub active: bool,
    /// The last entry that it is known to have.
    pub matched: u64,
}

/// What a change is judged by.
pub struct Situation<'a> {
    /// The members now.
    pub members: &'a ConfState,
    /// The roster now.
    pub roster: &'a Roster,
    /// The leader, which judges.
    pub leader: u64,
    /// How everybody is, the leader included.
    pub health: &'a [Health],
    /// Last entry of the leader's log.
    pub last_index: u64,
    /// The group's witness may lack entries up to this one; 0 without a witness.
    pub forgotten: u64,
}

impl Roster {
    /// Takes in a change that was carried out, and what it made of the members.
    /// Who is on the way out still counts, and is removed only when it is out.
    pub fn changed(&mut self, change: Option<&Change>, before: &ConfState, after: &ConfState) {
        if let Some(Change::Add(peer)) = change {
            self.announced(peer.clone());
        }
        let left = everybody(after);
        let gone = everybody(before).into_iter().filter(|id| !left.contains(id));
        self.removed.extend(gone);
        self.peers.retain(|peer| left.contains(&peer.id));
        let old = self.removed.len().saturating_sub(REMOVED_MAX);
        self.removed.drain(..old);
    }

    /// Takes in where a member says that it is. What it is was said when it was added.
    pub fn announced(&mut self, peer: Peer) {
        let witness = peer.witness || self.is_witness(peer.id);
        let peer = Peer { witness, ..peer };
        self.peers.retain(|other| other.id != peer.id);
        self.peers.push(peer);
        self.peers.sort_by_key(|peer| peer.id);
    }

    /// Whether a member is a witness.
    pub fn is_witness(&self, id: u64) -> bool {
        self.peer(id).is_some_and(|peer| peer.witness)
    }

    /// The group's witness, if it has one.
    pub fn witness(&self) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.witness)
    }

    /// A member's entry.
    pub fn peer(&self, id: u64) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }
}

/// Everybody who counts in any way, each once, in order.
pub fn everybody(members: &ConfState) -> Vec<u64> {
    let mut all = [
        members.voters.as_slice(),
        &members.learners,
        &members.voters_outgoing,
        &members.learners_next,
    ]
    .concat();
    all.sort_unstable();
    all.dedup();
    all
}
