//! The pods that wait for a node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::snapshot::PodInfo;

/// Order in which pods are looked at: the more important first, then the older, then by UID.
type Rank = (Reverse<i32>, String, String);

/// Waiting pods: those to look at, and those that found no node and wait for a change.
#[derive(Default)]
pub(crate) struct Queue {
    pods: BTreeMap<String, Arc<PodInfo>>,
    active: BTreeSet<Rank>,
}

fn rank(pod: &PodInfo) -> Rank {
    let born = pod
        .pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|t| t.0.to_string())
        .unwrap_or_default();
    (
        Reverse(pod.spec().priority.unwrap_or(0)),
        born,
        pod.uid().to_owned(),
    )
}

impl Queue {
    /// Adds a pod, or takes in its newest state, to be looked at.
    pub(crate) fn add(&mut self, pod: Arc<PodInfo>) {
        self.active.insert(rank(&pod));
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    /// Takes in the newest state of a pod without looking at it again.
    pub(crate) fn refresh(&mut self, pod: Arc<PodInfo>) {
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    /// The state of a waiting pod.
    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid)
    }

    /// Takes a pod out.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.active.remove(&rank(&pod));
        }
    }

    /// The next pod to look at; it keeps waiting until it is removed.
    pub(crate) fn next(&mut self) -> Option<Arc<PodInfo>> {
        while let Some((_, _, uid)) = self.active.pop_first() {
            if let Some(pod) = self.pods.get(&uid) {
                return Some(pod.clone());
            }
        }
        None
    }

    /// Looks at all waiting pods again, as the cluster changed.
    pub(crate) fn wake(&mut self) {
        self.active.extend(self.pods.values().map(|pod| rank(pod)));
    }
}
