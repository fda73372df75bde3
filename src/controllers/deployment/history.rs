//! Which ReplicaSet belongs to which template, and in which order they came.

use std::collections::BTreeMap;

use client::EventType;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::rollout::{Rollout, bounds, size, wanted};
use crate::plan::{Plan, Write};
use crate::pods;
use crate::replicaset::safe_suffix;
use crate::view::{is_going, managed_by};

pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `"true"` on a ReplicaSet: its revision was complete once.
pub(super) const ROLLED_OUT: &str = "coracle.dev/rolled-out";
/// On a Deployment: the reversal (`rollback.rs`) that it stands on.
pub(super) const ROLLED_BACK: &str = "coracle.dev/rolled-back";
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotations of a Deployment that are not its ReplicaSets' business.
const OWN: [&str; 8] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
    ROLLED_OUT,
    ROLLED_BACK,
];

pub(super) fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The template that a ReplicaSet was made from.
pub(super) fn template_of(set: &ReplicaSet) -> PodTemplateSpec {
    let mut template = set
        .spec
        .as_ref()
        .and_then(|s| s.template.clone())
        .unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

/// Whether a ReplicaSet was made from the Deployment's current template.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let Some(spec) = &deployment.spec else {
        return false;
    };
    let theirs = template_of(set);
    let plain = |template: &PodTemplateSpec| {
        let mut value = serde_json::to_value(template).unwrap_or_default();
        drop_empty(&mut value);
        value
    };
    plain(&theirs) == plain(&spec.template)
}

/// An absent map and an empty one are the same template.
fn drop_empty(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|_, v| !v.is_null() && v.as_object().is_none_or(|map| !map.is_empty()));
    }
}

/// Gives the current template's ReplicaSet the highest revision and the
/// Deployment's annotations, and the Deployment the same revision.
pub(super) fn number(rollout: &Rollout, plan: &mut Plan) {
    let highest_old = rollout.old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let Some(set) = &rollout.new else { return };
    let mut current = revision(set);
    let mut notes = json!({});
    for (name, value) in shared_annotations(rollout.deployment) {
        if annotation(set, &name) != Some(value.as_str()) {
            notes[name] = value.into();
        }
    }
    if current <= highest_old {
        notes[REVISION] = (highest_old + 1).to_string().into();
        if current > 0 {
            let history = match annotation(set, REVISION_HISTORY) {
                Some(before) if !before.is_empty() => format!("{before},{current}"),
                _ => current.to_string(),
            };
            notes[REVISION_HISTORY] = history.into();
        }
        current = highest_old + 1;
    }
    if notes != json!({}) {
        plan.write(Write::merge(
            set.as_ref(),
            json!({"metadata": {"annotations": notes}}),
        ));
    }
    note_revision(rollout.deployment, current, plan);
}

/// The Deployment's annotations that its ReplicaSets carry too, such as the cause of a change.
fn shared_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut shared = deployment.metadata.annotations.clone().unwrap_or_default();
    shared.retain(|name, _| !OWN.contains(&name.as_str()));
    shared
}

/// Part of the name of the current template's ReplicaSet, and its label.
fn template_hash(deployment: &Deployment) -> String {
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|s| s.collision_count)
        .unwrap_or(0);
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let text = serde_json::to_string(&template).unwrap_or_default();
    safe_suffix(&format!("{collisions}/{text}"), 10)
}

/// The name that the current template's ReplicaSet gets when it is made.
pub(super) fn new_name(deployment: &Deployment) -> String {
    let base = deployment.metadata.name.as_deref().unwrap_or_default();
    pods::child_name(base, &template_hash(deployment))
}

fn note_revision(deployment: &Deployment, revision: i64, plan: &mut Plan) {
    let revision = revision.to_string();
    let noted = deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|notes| notes.get(REVISION));
    if noted != Some(&revision) {
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        plan.write(Write::merge(deployment, patch));
    }
}

/// What a ReplicaSet notes about the size of the whole.
pub(super) fn size_annotations(deployment: &Deployment) -> BTreeMap<&'static str, String> {
    let wanted = wanted(deployment);
    let (surge, _) = bounds(deployment);
    BTreeMap::from([
        (DESIRED_REPLICAS, wanted.to_string()),
        (MAX_REPLICAS, (wanted + surge).to_string()),
    ])
}

/// Plans the ReplicaSet of the current template, with `replicas` pods. If its
/// name is taken, the status counts the collision, which makes another name.
pub(super) fn create(rollout: &Rollout, replicas: i32, plan: &mut Plan) {
    let deployment = rollout.deployment;
    let Some(spec) = &deployment.spec else { return };
    if rollout.collides {
        return;
    }
    let hash = template_hash(deployment);
    let revision = rollout.old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;

    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.to_owned(), hash.clone());

    let mut annotations = shared_annotations(deployment);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.extend(
        size_annotations(deployment)
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v)),
    );
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(new_name(deployment)),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![managed_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(replicas),
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let name = set.metadata.name.clone().unwrap_or_default();
    plan.write(Write::create(&set));
    if replicas > 0 {
        let message = format!("Scaled up replica set {name} from 0 to {replicas}");
        plan.tell(deployment, EventType::Normal, "ScalingReplicaSet", message);
    }
    note_revision(deployment, revision, plan);
}

/// Removes the oldest empty ReplicaSets beyond `revisionHistoryLimit`.
pub(super) fn clean_up(rollout: &Rollout, plan: &mut Plan) {
    let limit = rollout
        .deployment
        .spec
        .as_ref()
        .and_then(|s| s.revision_history_limit)
        .unwrap_or(10);
    let mut empty: Vec<_> = rollout
        .old
        .iter()
        .filter(|set| {
            let left = set.status.as_ref().map_or(0, |s| s.replicas);
            size(set) == 0 && left == 0 && !is_going(set.as_ref())
        })
        .collect();
    empty.sort_by_key(|set| revision(set));
    let kept = rollout.old.iter().filter(|set| !is_going(set.as_ref()));
    let excess = kept.count().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for set in empty.into_iter().take(excess) {
        plan.write(Write::delete(set.as_ref()));
    }
}
