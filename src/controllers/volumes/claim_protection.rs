//! A claim stays as long as a pod on a node uses it.

use api::storage;
use jiff::Timestamp;

use crate::finalizers::with_finalizer;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// What keeps a claim.
const FINALIZER: &str = "kubernetes.io/pvc-protection";

/// Marks every claim, and takes the mark from those that are deleted once no pod uses them; keyed by claim.
pub(super) struct UsedClaims;

impl Reconciler for UsedClaims {
    const NAME: &'static str = "persistentvolumeclaim-protection-controller";
    const QUEUE: &'static str = "pvcprotection";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(claim) = view.claims.get(&key.namespace, &key.name) else {
            return plan;
        };
        let going = is_going(claim.as_ref());
        if going && is_used(key, view) {
            return plan;
        }
        if let Some(new) = with_finalizer(claim.as_ref(), FINALIZER, !going) {
            plan.write(Write::update(&new));
        }
        plan
    }
}

/// Whether a pod that has a node names the claim. One without a node will not get one any more.
fn is_used(key: &Key, view: &View) -> bool {
    let pods = view.pods.list_in(&key.namespace);
    let mut placed = pods.iter().filter(|pod| !pods::node_of(pod).is_empty());
    placed.any(|pod| storage::claims_of(pod).any(|(name, _)| name == key.name))
}
