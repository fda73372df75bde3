//! Removes pods that nobody will ever finish: those of nodes that are gone.

use std::time::Duration;

use jiff::Timestamp;

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// How long a node may be unknown before its pods go with it: it may only just be registering.
const PATIENCE: Duration = Duration::from_secs(40);

/// Removes orphaned pods; keyed by pod.
pub struct OrphanedPods;

impl Reconciler for OrphanedPods {
    const NAME: &'static str = "pod-garbage-collector";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = view.pods.get(&key.namespace, &key.name) else {
            return plan;
        };
        let node = pods::node_of(&pod);
        if node.is_empty() {
            if is_going(pod.as_ref()) {
                plan.write(at_once(&pod));
            }
            return plan;
        }
        if view.nodes.get("", node).is_some() {
            return plan;
        }
        let born = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
        let age = Duration::try_from(now.duration_since(born)).unwrap_or_default();
        if age < PATIENCE {
            plan.look_again(PATIENCE - age);
        } else {
            plan.write(at_once(&pod));
        }
        plan
    }
}

/// A deletion that waits for no node.
pub(crate) fn at_once(pod: &k8s_openapi::api::core::v1::Pod) -> Write {
    let mut write = Write::delete(pod);
    if let Write::Delete { grace_seconds, .. } = &mut write {
        *grace_seconds = Some(0);
    }
    write
}
