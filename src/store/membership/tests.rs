//! Judging changes of the members, keeping the roster, and bytes.

use super::fixture::{Group, peer};
use super::*;

#[test]
fn learners_come_in_simply_and_voters_by_joint_consensus() {
    let group = Group::of_three();
    let added = group.judge(Change::Add(peer(5))).expect("a new member");
    assert_eq!(added.enter_joint(), None);
    for change in [Change::Promote(4), Change::Remove(2)] {
        assert_eq!(group.judge(change).expect("a change").enter_joint(), Some(true));
    }
}

#[test]
fn what_would_lose_the_majority_is_refused_with_the_reason() {
    let mut group = Group::of_three();
    group.health[2].active = false;
    let refused = group.refusal(Change::Remove(2));
    assert!(
        refused.contains("only 1 of 2 voters would be reachable, and 2 are needed"),
        "{refused}"
    );
    assert_eq!(group.refusal(Change::Remove(3)), "", "the dead one may go");
    assert!(group.refusal(Change::Remove(1)).contains("leads"));
}

#[test]
fn only_those_who_have_caught_up_are_promoted() {
    let mut group = Group::of_three();
    group.health[3].matched = 3999;
    assert!(group.refusal(Change::Promote(4)).contains("entry 3999 of 5000"));
    assert!(group.refusal(Change::Promote(2)).contains("already"));
    assert!(group.refusal(Change::Promote(7)).contains("no member 7"));
}

#[test]
fn ids_names_and_addresses_are_used_once() {
    let group = Group::of_three();
    assert!(group.refusal(Change::Add(peer(9))).contains("emptied"));
    assert!(group.refusal(Change::Add(peer(3))).contains("already"));
    let double = Peer { id: 6, ..peer(2) };
    assert!(group.refusal(Change::Add(double)).contains("remove it first"));
}

#[test]
fn a_member_is_removed_when_it_is_out_and_not_before() {
    let Group {
        members, mut roster, ..
    } = Group::of_three();
    let joint = ConfState {
        voters: vec![1, 3],
        voters_outgoing: vec![1, 2, 3],
        ..members.clone()
    };
    roster.changed(Some(&Change::Remove(2)), &members, &joint);
    assert!(roster.peer(2).is_some() && roster.removed == [9]);
    let left = ConfState {
        voters_outgoing: vec![],
        ..joint.clone()
    };
    roster.changed(None, &joint, &left);
    assert!(roster.peer(2).is_none() && roster.removed == [9, 2]);
}

#[test]
fn one_change_at_a_time() {
    let mut group = Group::of_three();
    group.members.voters_outgoing = vec![1, 2, 3];
    assert!(group.refusal(Change::Promote(4)).contains("under way"));
}

#[test]
fn unsound_members_are_recognised() {
    let good = Group::of_three().members;
    assert!(sound(&good));
    let bad = [
        ConfState::default(),
        ConfState {
            voters: vec![1, 1],
            ..ConfState::default()
        },
        ConfState {
            voters: vec![0],
            ..ConfState::default()
        },
        ConfState {
            learners: vec![1],
            ..good.clone()
        },
        ConfState {
            learners_next: vec![8],
            ..good.clone()
        },
        ConfState {
            auto_leave: true,
            ..good
        },
    ];
    assert!(bad.iter().all(|members| !sound(members)));
}

#[test]
fn changes_come_back_from_their_bytes() {
    for sent in [
        Change::Add(peer(5)),
        Change::Promote(1),
        Change::Remove(2),
        Change::Lead(3),
    ] {
        let mut out = vec![];
        put_change(&mut out, &sent);
        assert_eq!(change(&mut Reader::new(out.into())), Ok(sent));
    }
}
