//! What a server is in its cluster, as far as it knows. Pure.

use store::Status;

/// What a server is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the cluster.
    Alone,
    /// It votes, among others.
    Voter,
    /// It follows and does not vote yet.
    Learner,
    /// It shall join: nobody has told it anything yet.
    Newcomer,
    /// It was removed.
    Removed,
}

impl Standing {
    /// Reads it from how the store sees the group.
    pub fn of(status: &Status) -> Self {
        let (me, members) = (status.member, &status.members);
        if status.counts(me) {
            let others = members.voters.len() + members.learners.len() + members.voters_outgoing.len() > 1;
            return if others { Standing::Voter } else { Standing::Alone };
        }
        let follows = [
            // Its promotion is under way.
            &members.voters,
            &members.learners,
            &members.learners_next,
            &members.voters_outgoing,
        ];
        match follows.iter().any(|ids| ids.contains(&me)) {
            true => Standing::Learner,
            // Whatever a member has applied, it was in the group then.
            false if status.applied > 0 => Standing::Removed,
            false => Standing::Newcomer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_knows_what_it_is() {
        let of = |voters: &[u64], learners: &[u64], applied: u64| {
            let mut status = Status {
                member: 1,
                applied,
                ..Status::default()
            };
            status.members.voters = voters.to_vec();
            status.members.learners = learners.to_vec();
            Standing::of(&status)
        };
        assert_eq!(of(&[1], &[], 5), Standing::Alone);
        assert_eq!(of(&[1], &[2], 5), Standing::Voter);
        assert_eq!(of(&[1, 2], &[], 5), Standing::Voter);
        assert_eq!(of(&[2], &[1], 5), Standing::Learner);
        assert_eq!(of(&[], &[], 0), Standing::Newcomer);
        assert_eq!(of(&[2], &[], 5), Standing::Removed);
    }

    #[test]
    fn a_promotion_that_is_not_settled_makes_no_voter() {
        let mut status = Status {
            member: 1,
            applied: 5,
            unsettled: vec![1],
            ..Status::default()
        };
        status.members.voters = vec![1, 2];
        assert_eq!(Standing::of(&status), Standing::Learner);
    }
}
