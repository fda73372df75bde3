//! The claims' side of binding: which volume each gets, or why it has none yet.

use std::sync::Arc;

use api::storage::{self, BOUND_BY_CONTROLLER, SELECTED_NODE};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use super::{bind, provision};
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// Binds claims; keyed by claim.
pub(super) struct Claims;

impl Reconciler for Claims {
    const NAME: &'static str = "persistentvolume-controller";
    const QUEUE: &'static str = "claims";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(claim) = view.claims.get(&key.namespace, &key.name) else {
            return plan;
        };
        if !storage::note(&claim.metadata, storage::BIND_COMPLETED).is_empty() {
            check_bound(&claim, view, &mut plan);
        } else if !is_going(claim.as_ref()) {
            match storage::volume_name(&claim) {
                "" => seek(&claim, view, &mut plan),
                name => take_named(&claim, view.volumes.get("", name), &mut plan),
            }
        }
        plan
    }
}

/// A claim that was bound stays so as long as its volume says the same.
fn check_bound(claim: &PersistentVolumeClaim, view: &View, plan: &mut Plan) {
    let lost = match storage::volume_name(claim) {
        "" => Some((
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        )),
        name => match view.volumes.get("", name) {
            None => Some((
                "ClaimLost",
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            )),
            Some(volume) => {
                let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                if kept.is_none() || storage::is_kept_for(&volume, claim) {
                    bind::bind(claim, &volume, plan);
                    None
                } else {
                    Some((
                        "ClaimMisbound",
                        "Two claims are bound to the same volume, this one is bound incorrectly",
                    ))
                }
            }
        },
    };
    if let Some((reason, text)) = lost.filter(|_| storage::claim_phase(claim) != "Lost") {
        plan.write(Write::merge_status(claim, json!({"status": {"phase": "Lost"}})));
        plan.tell(claim, EventType::Warning, reason, text.to_owned());
    }
}

/// A claim whose volume somebody chose.
fn take_named(claim: &PersistentVolumeClaim, volume: Option<Arc<PersistentVolume>>, plan: &mut Plan) {
    let Some(volume) = volume else {
        return;
    };
    let name = storage::volume_name(claim);
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if kept.is_none() {
        match storage::mismatch(claim, &volume) {
            None => bind::bind(claim, &volume, plan),
            Some(why) => {
                let text = format!("Cannot bind to requested volume {name:?}: {why}");
                plan.tell(claim, EventType::Warning, "VolumeMismatch", text);
            }
        }
    } else if storage::is_kept_for(&volume, claim) {
        bind::bind(claim, &volume, plan);
    } else if storage::note(&claim.metadata, BOUND_BY_CONTROLLER).is_empty() {
        let text = format!("volume {name:?} already bound to a different claim.");
        plan.tell(claim, EventType::Warning, "FailedBinding", text);
    }
}

/// A claim that will take any volume that fits.
fn seek(claim: &PersistentVolumeClaim, view: &View, plan: &mut Plan) {
    let asked = storage::class_of_claim(claim);
    let class = asked.and_then(|name| view.classes.get("", name));
    let delayed = class.as_deref().is_some_and(storage::waits_for_consumer);
    let volumes = view.volumes.list();
    // Where a pod decides, only the scheduler gives free volumes away.
    let not_ours = |volume: &PersistentVolume| delayed && !storage::is_kept_for(volume, claim);
    if let Some(volume) = storage::best_match(claim, &volumes, None, not_ours) {
        return bind::bind(claim, volume, plan);
    }
    match asked {
        None => take_default(claim, &view.classes.list(), plan),
        Some("") => tell_none(claim, plan),
        Some(_) if delayed && storage::note(&claim.metadata, SELECTED_NODE).is_empty() => {
            tell_waiting(claim, view, plan);
        }
        Some(name) => provision::ask(claim, name, class.as_deref(), plan),
    }
}

/// A claim that was made before there was a default class gets it now.
fn take_default(claim: &PersistentVolumeClaim, classes: &[Arc<StorageClass>], plan: &mut Plan) {
    let Some(class) = storage::default_class(classes) else {
        return tell_none(claim, plan);
    };
    let mut new = claim.clone();
    let spec = new.spec.get_or_insert_default();
    spec.storage_class_name.clone_from(&class.metadata.name);
    plan.write(Write::update(&new));
}

fn tell_none(claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let text = "no persistent volumes available for this claim and no storage class is set";
    plan.tell(claim, EventType::Normal, "FailedBinding", text.to_owned());
}

fn tell_waiting(claim: &PersistentVolumeClaim, view: &View, plan: &mut Plan) {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let all = view.pods.list_in(namespace);
    let waiting: Vec<&str> = all
        .iter()
        .filter(|pod| pods::node_of(pod).is_empty() && !pods::is_finished(pod))
        .filter(|pod| storage::claims_of(pod).any(|(used, _)| used == name))
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    let (reason, text) = match waiting.as_slice() {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [pod] => (
            "WaitForPodScheduled",
            format!("waiting for pod {pod} to be scheduled"),
        ),
        pods => (
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    };
    plan.tell(claim, EventType::Normal, reason, text);
}
