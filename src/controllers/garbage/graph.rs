//! Who owns whom, and what follows from it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use api::request::ResourceRef;
use client::Propagation;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// An owner as its dependent names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Whether a foreground deletion of the owner waits for this dependent.
    pub(super) blocks: bool,
}

/// An object, as far as collecting is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) resource: ResourceRef,
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) owners: Vec<Owner>,
}

impl Member {
    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|f| f == finalizer)
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Delete {
        member: Member,
        propagation: Propagation,
    },
    RemoveOwners {
        member: Member,
        uids: Vec<String>,
    },
    RemoveFinalizer {
        member: Member,
        finalizer: String,
    },
}

/// All objects that own or are owned, by UID.
#[derive(Default)]
pub(super) struct Graph {
    members: HashMap<String, Member>,
    dependents: HashMap<String, BTreeSet<String>>,
    gone: HashSet<String>,
}

impl Graph {
    /// Takes in an object's newest state; returns whom to look at.
    pub(super) fn observe(&mut self, member: Member) -> Vec<String> {
        let uid = member.uid.clone();
        self.unlink(&uid);
        self.gone.remove(&uid);
        for owner in &member.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let mut affected = Vec::new();
        if !member.owners.is_empty() || (member.deleting && !member.finalizers.is_empty()) {
            affected.push(uid.clone());
        }
        // An owner in foreground deletion may have waited for just this change.
        for owner in &member.owners {
            if self.members.get(&owner.uid).is_some_and(|o| o.deleting) {
                affected.push(owner.uid.clone());
            }
        }
        self.members.insert(uid, member);
        affected
    }

    /// Takes an object out; returns whom to look at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let owners: Vec<String> = self
            .members
            .get(uid)
            .map(|m| m.owners.iter().map(|o| o.uid.clone()).collect())
            .unwrap_or_default();
        self.unlink(uid);
        self.members.remove(uid);
        let mut affected: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if !affected.is_empty() {
            self.gone.insert(uid.to_owned());
        }
        affected.extend(
            owners
                .into_iter()
                .filter(|o| self.members.get(o).is_some_and(|o| o.deleting)),
        );
        affected
    }

    fn unlink(&mut self, uid: &str) {
        let Some(member) = self.members.get(uid) else {
            return;
        };
        for owner in &member.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                    self.gone.remove(&owner.uid);
                }
            }
        }
    }

    /// The owners of an object that are neither seen nor known to be gone.
    pub(super) fn unknown_owners(&self, uid: &str) -> Vec<Owner> {
        let owners = self
            .members
            .get(uid)
            .map(|m| m.owners.clone())
            .unwrap_or_default();
        owners
            .into_iter()
            .filter(|o| !self.members.contains_key(&o.uid) && !self.gone.contains(&o.uid))
            .collect()
    }

    /// Notes that an owner does not exist.
    pub(super) fn confirm_gone(&mut self, uid: &str) {
        if !self.members.contains_key(uid) {
            self.gone.insert(uid.to_owned());
        }
    }

    /// The UIDs of a resource's objects that `choose` picks.
    pub(super) fn of_resource(&self, resource: &ResourceRef, choose: impl Fn(&str) -> bool) -> Vec<String> {
        let members = self
            .members
            .values()
            .filter(|m| m.resource == *resource && choose(&m.uid));
        members.map(|m| m.uid.clone()).collect()
    }

    /// What is to be done about an object now.
    pub(super) fn decide(&self, uid: &str) -> Vec<Action> {
        let Some(member) = self.members.get(uid) else {
            return Vec::new();
        };
        if member.deleting && member.has(ORPHAN) {
            return self.orphan(member);
        }
        if member.deleting && member.has(FOREGROUND) {
            return self.foreground(member);
        }
        if member.deleting || member.owners.is_empty() {
            return Vec::new();
        }
        self.collect(member)
    }

    fn dependents(&self, uid: &str) -> impl Iterator<Item = &Member> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|dependent| self.members.get(dependent))
    }

    /// Dependents are cut loose, then the object may go.
    fn orphan(&self, member: &Member) -> Vec<Action> {
        let mut actions: Vec<Action> = self
            .dependents(&member.uid)
            .map(|dependent| Action::RemoveOwners {
                member: dependent.clone(),
                uids: vec![member.uid.clone()],
            })
            .collect();
        actions.push(Action::RemoveFinalizer {
            member: member.clone(),
            finalizer: ORPHAN.to_owned(),
        });
        actions
    }

    /// Dependents go first; the object follows when none is left that it must wait for.
    fn foreground(&self, member: &Member) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut waiting = false;
        for dependent in self.dependents(&member.uid) {
            waiting |= dependent.owners.iter().any(|o| o.uid == member.uid && o.blocks);
            if !dependent.deleting {
                actions.extend(self.collect(dependent));
            }
        }
        if !waiting {
            let finalizer = FOREGROUND.to_owned();
            actions.push(Action::RemoveFinalizer {
                member: member.clone(),
                finalizer,
            });
        }
        actions
    }

    /// An object all of whose owners are gone (or wait for it to go) goes; one
    /// that has another owner left only loses the references to those.
    fn collect(&self, member: &Member) -> Vec<Action> {
        let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
        for owner in &member.owners {
            match self.members.get(&owner.uid) {
                Some(found) if found.deleting && found.has(FOREGROUND) => waiting.push(owner.uid.clone()),
                Some(_) => solid += 1,
                None if self.gone.contains(&owner.uid) => dangling.push(owner.uid.clone()),
                None => solid += 1,
            }
        }
        if solid > 0 {
            dangling.append(&mut waiting);
            if dangling.is_empty() {
                return Vec::new();
            }
            return vec![Action::RemoveOwners {
                member: member.clone(),
                uids: dangling,
            }];
        }
        let propagation = if !waiting.is_empty() && self.dependents(&member.uid).next().is_some() {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        vec![Action::Delete {
            member: member.clone(),
            propagation,
        }]
    }
}

/// One that several tasks work with.
pub type Shared = Arc<Mutex<Graph>>;

/// Nobody waits while it is held, and what a panic left behind is as good as before.
pub fn locked(graph: &Shared) -> std::sync::MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(uid: &str, owners: &[&str]) -> Member {
        Member {
            resource: ResourceRef::new("", "v1", "things"),
            kind: "Thing",
            namespace: "ns".into(),
            name: uid.into(),
            uid: uid.into(),
            resource_version: "1".into(),
            deleting: false,
            finalizers: Vec::new(),
            owners: owners
                .iter()
                .map(|o| Owner {
                    namespace: "ns".into(),
                    api_version: "v1".into(),
                    kind: "Thing".into(),
                    name: (*o).into(),
                    uid: (*o).into(),
                    blocks: true,
                })
                .collect(),
        }
    }

    #[test]
    fn dependents_of_a_deleted_owner_are_deleted() {
        let mut graph = Graph::default();
        graph.observe(member("owner", &[]));
        graph.observe(member("child", &["owner"]));
        assert!(graph.decide("child").is_empty());
        assert_eq!(graph.remove("owner"), ["child"]);
        assert!(matches!(graph.decide("child")[..], [Action::Delete { .. }]));
    }

    #[test]
    fn an_unseen_owner_is_asked_for_and_not_assumed_gone() {
        let mut graph = Graph::default();
        graph.observe(member("child", &["owner"]));
        assert!(graph.decide("child").is_empty());
        assert_eq!(graph.unknown_owners("child").len(), 1);
        graph.confirm_gone("owner");
        assert!(matches!(graph.decide("child")[..], [Action::Delete { .. }]));
    }

    #[test]
    fn a_second_owner_keeps_the_object_alive() {
        let mut graph = Graph::default();
        graph.observe(member("a", &[]));
        graph.observe(member("b", &[]));
        graph.observe(member("child", &["a", "b"]));
        graph.remove("a");
        assert!(matches!(&graph.decide("child")[..], [Action::RemoveOwners { uids, .. }] if uids == &["a"]));
    }

    #[test]
    fn an_owner_does_not_wait_for_what_another_keeps_alive() {
        let mut graph = Graph::default();
        let mut owner = member("a", &[]);
        owner.deleting = true;
        owner.finalizers = vec![FOREGROUND.into()];
        graph.observe(owner);
        graph.observe(member("b", &[]));
        graph.observe(member("child", &["a", "b"]));
        for looked_at in ["child", "a"] {
            let actions = graph.decide(looked_at);
            assert!(
                matches!(&actions[..], [Action::RemoveOwners { uids, .. }] if uids == &["a"]),
                "{actions:?}"
            );
        }
        graph.observe(member("child", &["b"]));
        assert!(matches!(graph.decide("a")[..], [Action::RemoveFinalizer { .. }]));
    }

    #[test]
    fn orphaning_cuts_dependents_loose_before_the_owner_goes() {
        let mut graph = Graph::default();
        let mut owner = member("owner", &[]);
        graph.observe(member("child", &["owner"]));
        owner.deleting = true;
        owner.finalizers = vec![ORPHAN.into()];
        graph.observe(owner);
        let actions = graph.decide("owner");
        assert!(matches!(actions[0], Action::RemoveOwners { .. }));
        assert!(matches!(actions[1], Action::RemoveFinalizer { .. }));
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        let mut owner = member("owner", &[]);
        owner.deleting = true;
        owner.finalizers = vec![FOREGROUND.into()];
        graph.observe(member("child", &["owner"]));
        graph.observe(owner);
        assert!(matches!(graph.decide("owner")[..], [Action::Delete { .. }]));
        assert_eq!(graph.remove("child"), ["owner"]);
        assert!(matches!(
            graph.decide("owner")[..],
            [Action::RemoveFinalizer { .. }]
        ));
    }
}
