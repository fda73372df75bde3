//! A volume stays as long as it is bound.

use api::storage;
use jiff::Timestamp;

use crate::Reconciler;
use crate::finalizers::with_finalizer;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// What keeps a volume.
pub(super) const FINALIZER: &str = "kubernetes.io/pv-protection";

/// Marks every volume, and takes the mark from those that are deleted and not bound; keyed by volume.
pub(super) struct BoundVolumes;

impl Reconciler for BoundVolumes {
    const NAME: &'static str = "persistentvolume-protection-controller";
    const QUEUE: &'static str = "pvprotection";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(volume) = view.volumes.get("", &key.name) else {
            return plan;
        };
        let going = is_going(volume.as_ref());
        if going && storage::volume_phase(&volume) == "Bound" {
            return plan;
        }
        if let Some(new) = with_finalizer(volume.as_ref(), FINALIZER, !going) {
            plan.write(Write::update(&new));
        }
        plan
    }
}
