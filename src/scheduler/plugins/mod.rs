//! The rules, in the order in which they are asked.

mod affinity;
mod balance;
mod claims;
mod node_affinity;
mod node_name;
mod ports;
mod resources;
mod spread;
mod taints;
mod unschedulable;
mod volume_binding;
mod volume_limits;
mod volume_restrictions;

use crate::plugin::Plugin;

/// Every rule.
pub(crate) fn all() -> &'static [&'static dyn Plugin] {
    &[
        &unschedulable::NodeUnschedulable,
        &node_name::NodeName,
        &taints::TaintToleration,
        &node_affinity::NodeAffinity,
        &ports::NodePorts,
        &resources::NodeResourcesFit,
        &volume_restrictions::VolumeRestrictions,
        &volume_limits::NodeVolumeLimits,
        &volume_binding::VolumeBinding,
        &claims::DynamicResources,
        &balance::NodeResourcesBalancedAllocation,
        &spread::PodTopologySpread,
        &affinity::InterPodAffinity,
    ]
}
