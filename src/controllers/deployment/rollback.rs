//! Reversal: a rollout that came to nothing gives way to the last revision that did not.
//!
//! For Deployments annotated `coracle.dev/rollback-on-deadline: "true"`; see `docs/rollouts.md`.
//! All that is remembered stands in annotations: on a ReplicaSet that its revision was once
//! complete, on the Deployment which revision was given up for which. So a decision is a function
//! of objects, and a second reversal of the same rollout cannot come about by a restart.

use client::EventType;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conditions::was_complete;
use super::history::{ROLLED_BACK, ROLLED_OUT};
use super::rollout::{Rollout, wanted};
use super::{history, progress};
use crate::plan::{Plan, Write};
use crate::view::is_going;

/// `"true"` on a Deployment asks for reversal.
const ASKED: &str = "coracle.dev/rollback-on-deadline";
/// Kubernetes' note of why a revision came about; it goes with the revision.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// The condition's type.
pub(super) const CONDITION: &str = "RolledBack";
/// Its reason when there is nothing to go back to.
const NOT_FOUND: &str = "RevisionNotFound";

/// Which revision was given up for which; by the names of their ReplicaSets, since numbers move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reversal {
    from: String,
    from_revision: i64,
    to: String,
    to_revision: i64,
}

fn note<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a str> {
    deployment
        .metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

fn name(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

fn reversal(deployment: &Deployment) -> Option<Reversal> {
    serde_json::from_str(note(deployment, ROLLED_BACK)?).ok()
}

/// Notes on the current ReplicaSet that its revision is complete. A Deployment
/// of no replicas proves nothing of its template.
pub(super) fn mark_complete(rollout: &Rollout, plan: &mut Plan) {
    let Some(set) = &rollout.new else { return };
    let proven = wanted(rollout.deployment) > 0 && was_complete(rollout.deployment);
    if proven && history::annotation(set, ROLLED_OUT) != Some("true") {
        let patch = json!({"metadata": {"annotations": {ROLLED_OUT: "true"}}});
        plan.write(Write::merge(set.as_ref(), patch));
    }
}

/// Takes away what earlier reversals noted once the user has gone on to another template.
pub(super) fn forget(rollout: &Rollout, plan: &mut Plan) {
    let (deployment, Some(new)) = (rollout.deployment, &rollout.new) else {
        return;
    };
    let stale = note(deployment, ROLLED_BACK).is_some()
        && reversal(deployment).is_none_or(|reversal| reversal.to != name(new));
    if stale {
        let patch = json!({"metadata": {"annotations": {ROLLED_BACK: null}}});
        plan.write(Write::merge(deployment, patch));
    }
}

/// The current rollout, if it has failed, the Deployment wants it reversed, and it is no reversal itself.
fn failed<'a>(rollout: &'a Rollout) -> Option<&'a ReplicaSet> {
    let (deployment, new) = (rollout.deployment, rollout.new.as_deref()?);
    let spec = deployment.spec.as_ref()?;
    let asked = note(deployment, ASKED) == Some("true") && spec.paused != Some(true);
    let is_reversal = reversal(deployment).is_some_and(|reversal| reversal.to == name(new));
    (asked && !is_reversal && progress::has_timed_out(deployment, new)).then_some(new)
}

/// The revision to go back to: of those that were complete once, the latest.
fn last_good<'a>(rollout: &'a Rollout) -> Option<&'a ReplicaSet> {
    let sets = rollout.old.iter().map(|set| set.as_ref());
    sets.filter(|set| !is_going(*set) && history::annotation(set, ROLLED_OUT) == Some("true"))
        .max_by_key(|set| history::revision(set))
}

/// Plans the reversal if there is one to be made. Nothing else should be done
/// about the Deployment then: all of it is about a template that it will no longer have.
pub(super) fn reverse(rollout: &Rollout, plan: &mut Plan) -> bool {
    let Some((bad, good)) = failed(rollout).zip(last_good(rollout)) else {
        return false;
    };
    let deployment = rollout.deployment;
    let reversal = Reversal {
        from: name(bad).to_owned(),
        from_revision: history::revision(bad),
        to: name(good).to_owned(),
        to_revision: history::revision(good),
    };
    if history::annotation(bad, ROLLED_OUT).is_some() {
        let patch = json!({"metadata": {"annotations": {ROLLED_OUT: null}}});
        plan.write(Write::merge(bad, patch));
    }
    plan.write(Write::json_patch(
        deployment,
        operations(deployment, good, &reversal),
    ));
    let message = format!(
        "Rolled back deployment {:?} to revision {}: {}",
        deployment.metadata.name.as_deref().unwrap_or_default(),
        reversal.to_revision,
        because(deployment, &reversal)
    );
    plan.tell(deployment, EventType::Normal, "DeploymentRollback", message);
    true
}

/// The change of the Deployment; it fails if anybody has changed its spec meanwhile.
fn operations(deployment: &Deployment, good: &ReplicaSet, reversal: &Reversal) -> Value {
    let path = |annotation: &str| format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
    let text = serde_json::to_string(reversal).unwrap_or_default();
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/generation", "value": deployment.metadata.generation}),
        json!({"op": "replace", "path": "/spec/template", "value": history::template_of(good)}),
        json!({"op": "add", "path": path(ROLLED_BACK), "value": text}),
    ];
    match (
        history::annotation(good, CHANGE_CAUSE),
        note(deployment, CHANGE_CAUSE),
    ) {
        (Some(cause), _) => {
            operations.push(json!({"op": "add", "path": path(CHANGE_CAUSE), "value": cause}));
        }
        (None, Some(_)) => operations.push(json!({"op": "remove", "path": path(CHANGE_CAUSE)})),
        (None, None) => {}
    }
    operations.into()
}

fn because(deployment: &Deployment, reversal: &Reversal) -> String {
    let deadline = progress::deadline_seconds(deployment);
    format!(
        "revision {} (ReplicaSet {:?}) made no progress for {deadline} seconds",
        reversal.from_revision, reversal.from
    )
}

/// What the condition `RolledBack` should say: status, reason, message; `None` for no such condition.
pub(super) fn verdict(rollout: &Rollout) -> Option<(&'static str, &'static str, String)> {
    let deployment = rollout.deployment;
    let current = rollout.new.as_ref().map(|set| name(set));
    if let Some(reversal) = reversal(deployment).filter(|r| Some(r.to.as_str()) == current) {
        let message = format!(
            "Went back to revision {} (ReplicaSet {:?}): {}",
            reversal.to_revision,
            reversal.to,
            because(deployment, &reversal)
        );
        return Some(("True", "ProgressDeadlineExceeded", message));
    }
    (failed(rollout).is_some() && last_good(rollout).is_none())
        .then(|| ("False", NOT_FOUND, "No revision was complete before.".to_owned()))
}

/// Says once that there is nothing to go back to.
pub(super) fn tell_not_found(deployment: &Deployment, before: &[DeploymentCondition], plan: &mut Plan) {
    let said = before
        .iter()
        .any(|c| c.type_ == CONDITION && c.reason.as_deref() == Some(NOT_FOUND));
    if !said {
        let message = "Unable to find last revision.".to_owned();
        plan.tell(
            deployment,
            EventType::Warning,
            "DeploymentRollbackRevisionNotFound",
            message,
        );
    }
}
