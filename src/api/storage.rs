//! What scheduler, agent and controllers all need to know about storage: what a claim asks for, which
//! volume would do, and where a volume can be had.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::quantity::Quantity;
use crate::selector::LabelSelector;

/// On claims and volumes: made whole by the binder (the value is `yes`).
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On claims and volumes: the link to the other was set by the binder, not by a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On claims: the node for which the scheduler wants the volume.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On claims: who is to make the volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as it was called before; some provisioners still look here.
pub const STORAGE_PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On volumes: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Where claims and volumes named their class before there was a field for it.
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
/// On classes: claims that name none get this one.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The provisioner of folders on nodes that is part of Coracle, and the annotation by which a Node says
/// where on it they lie.
pub const LOCAL_PATH: &str = "coracle.dev/local-path";

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// An annotation of an object; empty when it has none.
pub fn note<'a>(meta: &'a ObjectMeta, key: &str) -> &'a str {
    annotation(meta, key).unwrap_or_default()
}

/// The class a claim asks for: `None` if it leaves that to the cluster, empty if it wants none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    let field = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, CLASS_BETA).or_else(field)
}

/// The class of a volume; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, CLASS_BETA)
        .or_else(field)
        .unwrap_or_default()
}

/// The class that claims without one get: of several that say so the newest, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let marked = |class: &&Arc<StorageClass>| note(&class.metadata, DEFAULT_CLASS) == "true";
    let age = |class: &&Arc<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|t| t.0);
    classes.iter().filter(marked).max_by(|a, b| {
        let names = b.metadata.name.cmp(&a.metadata.name);
        age(a).cmp(&age(b)).then(names)
    })
}

/// Whether claims of a class wait for a pod before they are bound.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether volumes of a class may be made for a node (`allowedTopologies`).
pub fn allows(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    terms.is_empty()
        || terms.iter().any(|term| {
            let mut wanted = term.match_label_expressions.iter().flatten();
            wanted.all(|wanted| {
                let value = labels.and_then(|labels| labels.get(&wanted.key));
                value.is_some_and(|value| wanted.values.contains(value))
            })
        })
}

/// Whether claim and volume name the same VolumeAttributesClass, or neither names any.
fn same_attributes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let named = |name: &Option<String>| name.clone().unwrap_or_default();
    let wanted = claim
        .spec
        .as_ref()
        .map(|spec| named(&spec.volume_attributes_class_name));
    let had = volume
        .spec
        .as_ref()
        .map(|spec| named(&spec.volume_attributes_class_name));
    wanted.unwrap_or_default() == had.unwrap_or_default()
}

/// How much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let storage = resources.and_then(|r| r.requests.as_ref()?.get("storage"));
    storage.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// How much a claim has.
pub fn held(claim: &PersistentVolumeClaim) -> Quantity {
    let status = claim.status.as_ref();
    let storage = status.and_then(|status| status.capacity.as_ref()?.get("storage"));
    storage.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// How much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    let storage = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    storage.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

fn mode_of(mode: Option<&str>) -> &str {
    mode.filter(|mode| !mode.is_empty()).unwrap_or("Filesystem")
}

/// Whether both are file systems, or both are block devices.
pub fn same_mode(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    let had = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode_of(wanted) == mode_of(had)
}

/// How a claim or a volume may be used; empty when nothing is said.
pub fn modes(list: Option<&Vec<String>>) -> &[String] {
    list.map(Vec::as_slice).unwrap_or_default()
}

fn offers_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let had = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes(wanted).iter().all(|mode| modes(had).contains(mode))
}

/// Whether a claim may be used by one pod alone.
pub fn is_for_one_pod(claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes(wanted).iter().any(|mode| mode == "ReadWriteOncePod")
}

/// Whether the volume is kept for this claim: it names the claim, and no other one of that name.
pub fn is_kept_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(kept) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let uid = kept.uid.as_deref().unwrap_or_default();
    kept.name == claim.metadata.name
        && kept.namespace == claim.metadata.namespace
        && (uid.is_empty() || claim.metadata.uid.as_deref() == Some(uid))
}

/// Whether a node can reach the volume (`spec.nodeAffinity`).
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| crate::pod::term_fits(term, node))
    })
}

/// The phase of a volume; `Pending` before it has one.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.filter(|phase| !phase.is_empty()).unwrap_or("Pending")
}

/// The phase of a claim; `Pending` before it has one.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.filter(|phase| !phase.is_empty()).unwrap_or("Pending")
}

/// The volume a claim names; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    name.unwrap_or_default()
}

/// Whether claim and volume belong to each other for good.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && !note(&claim.metadata, BIND_COMPLETED).is_empty()
}

/// Why a volume that somebody chose by name will not do for a claim.
pub fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    if capacity(volume) < requested(claim) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if !same_attributes(claim, volume) {
        Some("volumeAttributesClassName does not match")
    } else if !same_mode(claim, volume) {
        Some("incompatible volumeMode")
    } else if !offers_modes(claim, volume) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// The volume that serves a claim best: one kept for it, else the smallest free one that fits, and of
/// these the one that offers least besides. With a `node`, only what that node can reach.
pub fn best_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a Arc<PersistentVolume>>,
    node: Option<&Node>,
    taken: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = selector.map(|selector| LabelSelector::from_typed(Some(selector)));
    let wanted = requested(claim);
    let usable = volumes.into_iter().filter(|volume| {
        !taken(volume)
            && volume.metadata.deletion_timestamp.is_none()
            && same_mode(claim, volume)
            && offers_modes(claim, volume)
            && capacity(volume) >= wanted
    });
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in usable {
        let reached = node.is_none_or(|node| reaches(volume, node));
        if is_kept_for(volume, claim) {
            return Some(volume).filter(|_| reached);
        }
        let free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
        let fits = free
            && reached
            && volume_phase(volume) == "Available"
            && labels
                .as_ref()
                .is_none_or(|labels| labels.matches(&volume.metadata.labels))
            && class_of_volume(volume) == class_of_claim(claim).unwrap_or_default()
            && same_attributes(claim, volume);
        if fits && best.is_none_or(|other| rank(volume) < rank(other)) {
            best = Some(volume);
        }
    }
    best
}

/// Order in which free volumes are given away.
fn rank(volume: &PersistentVolume) -> (usize, Quantity, Option<&str>) {
    let had = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    (
        modes(had).len(),
        capacity(volume),
        volume.metadata.name.as_deref(),
    )
}

/// Name of the claim that a volume of a pod stands for, and whether it is the pod's own (generic ephemeral).
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    volume
        .ephemeral
        .as_ref()
        .map(|_| (format!("{pod}-{}", volume.name), true))
}

/// The claims that a pod uses, as [`claim_of`] has them.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_of(pod, volume))
}

/// Whether a claim was made for this pod.
///
/// # Errors
/// Kubernetes' text when it was not.
pub fn is_own(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref()) {
        return Ok(());
    }
    let full = |meta: &ObjectMeta| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&meta.namespace), part(&meta.name))
    };
    let (pod, claim) = (full(&pod.metadata), full(&claim.metadata));
    Err(format!(
        "PVC {claim} was not created for pod {pod} (pod is not owner)"
    ))
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
