//! Persistent storage: claims find volumes, volumes are made and reclaimed, neither goes while it is used.
//!
//! ```text
//! ephemeral ─▶ claim ─▶ claims ─▶ a volume that is there ───────────────▶ bound
//!                         │                                                 ▲
//!                         └─▶ provision ─▶ local_path (or somebody else) ─▶ volume
//! pod has a node ─▶ attach ─▶ VolumeAttachment ─▶ the driver's attacher ─▶ the node mounts
//! claim gone ─▶ volumes: released ─▶ kept, or deleted by whoever made it
//! ```
//! What both sides must agree on stands in [`api::storage`].

mod attach;
mod bind;
mod claim_protection;
mod claims;
mod class_protection;
mod ephemeral;
mod expansion;
mod local_path;
mod persistent;
mod provision;
mod volume_protection;

use api::storage;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::harness::{Harness, Surroundings};
use crate::plan::Key;
use crate::view::View;

/// Starts the controllers of this folder.
pub fn start(s: &Surroundings) {
    let view = &s.view;
    Harness::start(claims::Claims, 1, s)
        .on_each(view.claims.changes())
        .on(view.volumes.changes(), claims_for_volume)
        .on(view.classes.changes(), claims_for_class);
    Harness::start(persistent::Volumes, 1, s)
        .on_each(view.volumes.changes())
        .on(view.claims.changes(), volumes_for_claim);
    Harness::start(local_path::LocalPaths, 1, s).on_each(view.claims.changes());
    Harness::start(expansion::Expansion, 1, s).on_each(view.claims.changes());
    Harness::start(claim_protection::UsedClaims, 1, s)
        .on_each(view.claims.changes())
        .on(view.pods.changes(), claims_for_pod);
    Harness::start(attach::Attachments, 1, s)
        .on_each(view.volumes.changes())
        .on(view.claims.changes(), volumes_for_claim)
        .on(view.pods.changes(), attach::volumes_for_pod)
        .on(view.nodes.changes(), attach::volumes_for_node)
        .on(view.drivers.changes(), attach::volumes_for_driver)
        .on(view.attachments.changes(), attach::volume_for_attachment);
    Harness::start(volume_protection::BoundVolumes, 1, s).on_each(view.volumes.changes());
    Harness::start(class_protection::UsedClasses, 1, s)
        .on_each(view.attributes_classes.changes())
        .on(view.claims.changes(), class_protection::going_classes)
        .on(view.volumes.changes(), class_protection::going_classes);
    Harness::start(ephemeral::EphemeralVolumes, 1, s)
        .on(view.pods.changes(), pod_with_own_claims)
        .on(view.claims.changes(), |claim, _| {
            owner(claim).into_iter().collect()
        });
}

fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    !storage::is_bound(claim)
}

fn claims_for_volume(volume: &PersistentVolume, view: &View) -> Vec<Key> {
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if let Some(kept) = kept {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        return vec![Key::new(part(&kept.namespace), part(&kept.name))];
    }
    let class = storage::class_of_volume(volume);
    pending(view, |wanted| wanted.unwrap_or_default() == class)
}

fn claims_for_class(class: &StorageClass, view: &View) -> Vec<Key> {
    let name = class.metadata.name.as_deref();
    pending(view, |wanted| wanted.is_none() || wanted == name)
}

fn pending(view: &View, of_class: impl Fn(Option<&str>) -> bool) -> Vec<Key> {
    let claims = view.claims.list().into_iter();
    let waiting = claims.filter(|claim| is_pending(claim) && of_class(storage::class_of_claim(claim)));
    waiting.map(|claim| Key::of(claim.as_ref())).collect()
}

/// The volume a claim names, and those that name the claim.
fn volumes_for_claim(claim: &PersistentVolumeClaim, view: &View) -> Vec<Key> {
    let named = storage::volume_name(claim);
    let meta = &claim.metadata;
    let keeps = |volume: &PersistentVolume| {
        let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        kept.is_some_and(|kept| kept.name == meta.name && kept.namespace == meta.namespace)
    };
    let all = view.volumes.list().into_iter();
    all.filter(|volume| volume.metadata.name.as_deref() == Some(named) || keeps(volume))
        .map(|volume| Key::of(volume.as_ref()))
        .collect()
}

fn claims_for_pod(pod: &Pod, _: &View) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    storage::claims_of(pod)
        .map(|(name, _)| Key::new(namespace, name))
        .collect()
}

fn pod_with_own_claims(pod: &Pod, _: &View) -> Vec<Key> {
    let own = storage::claims_of(pod).any(|(_, own)| own);
    own.then(|| Key::of(pod)).into_iter().collect()
}

/// The pod that a claim was made for.
fn owner(claim: &PersistentVolumeClaim) -> Option<Key> {
    let owner = crate::view::controller_of(claim).filter(|owner| owner.kind == "Pod")?;
    let namespace = claim.metadata.namespace.clone().unwrap_or_default();
    Some(Key::new(namespace, owner.name.clone()))
}

#[cfg(test)]
mod attach_tests;
#[cfg(test)]
mod tests;
