//! Claims that ask for more than they have. A folder has no size of its own, so one of ours grows by
//! saying so; others are left to whoever made them.

use api::storage::{self, LOCAL_PATH, PROVISIONED_BY, note};
use client::EventType;
use jiff::Timestamp;
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// Lets volumes grow; keyed by claim.
pub(super) struct Expansion;

impl Reconciler for Expansion {
    const NAME: &'static str = "volume_expand";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(claim) = view.claims.get(&key.namespace, &key.name) else {
            return plan;
        };
        let wanted = storage::requested(&claim);
        if storage::claim_phase(&claim) != "Bound" || wanted <= storage::held(&claim) {
            return plan;
        }
        let Some(volume) = view.volumes.get("", storage::volume_name(&claim)) else {
            return plan;
        };
        let class = view.classes.get("", storage::class_of_volume(&volume));
        if class.is_none_or(|class| class.allow_volume_expansion != Some(true)) {
            return plan;
        }
        if note(&volume.metadata, PROVISIONED_BY) != LOCAL_PATH {
            let text = "waiting for an external controller to expand this PVC";
            plan.tell(
                claim.as_ref(),
                EventType::Normal,
                "ExternalExpanding",
                text.to_owned(),
            );
            return plan;
        }
        let size = wanted.to_string();
        if storage::capacity(&volume) < wanted {
            let grown = json!({"spec": {"capacity": {"storage": size}}});
            plan.write(Write::merge(volume.as_ref(), grown));
        }
        let amounts = json!({"storage": size});
        let status = json!({"status": {"capacity": amounts.clone(), "allocatedResources": amounts}});
        plan.write(Write::merge_status(claim.as_ref(), status));
        let text = "Resize volume succeeded".to_owned();
        plan.tell(claim.as_ref(), EventType::Normal, "VolumeResizeSuccessful", text);
        plan
    }
}
