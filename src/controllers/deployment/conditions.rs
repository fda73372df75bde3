//! How a Deployment's conditions are set, and when its status says that all is done.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::wanted;

/// Whether the last status that was written says that the rollout is over.
pub(super) fn was_complete(deployment: &Deployment) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    is_complete(deployment, &before)
}

/// Whether a status says that all replicas are of the current template, and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = wanted(deployment);
    status.updated_replicas == Some(wanted)
        && status.replicas == Some(wanted)
        && status.available_replicas == Some(wanted)
        && status.observed_generation >= deployment.metadata.generation
}

/// Sets a condition; its transition time moves only with its status, its
/// update time also when `touch` says that something happened.
pub(super) fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
    touch: bool,
) {
    let now = Time(now);
    let old = conditions.iter().find(|c| c.type_ == kind).cloned();
    let same_status = old.as_ref().is_some_and(|c| c.status == status);
    let same_reason = old.as_ref().is_some_and(|c| c.reason.as_deref() == Some(reason));
    if same_status && same_reason && !touch {
        return;
    }
    let transition = old.filter(|_| same_status).and_then(|c| c.last_transition_time);
    conditions.retain(|c| c.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(transition.unwrap_or(now)),
    });
}
