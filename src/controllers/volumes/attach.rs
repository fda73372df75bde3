//! Attaching and detaching: a VolumeAttachment for every node on which a pod uses a driver's volume. The
//! driver's attacher does what it says, the node waits for that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{csi, storage};
use client::EventType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{AttachedVolume, Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::{
    CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// How long a node that is lost may keep a volume that no pod uses.
const LOST_NODE: SignedDuration = SignedDuration::from_mins(6);
/// How often it is looked whether that is over.
const LOOK: Duration = Duration::from_secs(30);

/// Attaches and detaches; keyed by PersistentVolume.
pub(super) struct Attachments;

impl Reconciler for Attachments {
    const NAME: &'static str = "attachdetach-controller";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let volume = view.volumes.get("", &key.name);
        let wanted = volume
            .as_deref()
            .map(|volume| users(volume, view))
            .unwrap_or_default();
        let there = of_volume(&key.name, view);
        for one in &there {
            settle(
                one,
                wanted.get(&one.spec.node_name),
                volume.as_deref(),
                view,
                &mut plan,
            );
            let unwanted = !wanted.contains_key(&one.spec.node_name);
            if unwanted && is_ours(one) && !is_going(one.as_ref()) {
                detach(one, volume.as_deref(), view, now, &mut plan);
            }
        }
        if let Some(volume) = volume {
            for (node, users) in &wanted {
                if !there.iter().any(|one| one.spec.node_name == *node) {
                    attach(&volume, node, users, &there, &mut plan);
                }
            }
        }
        plan
    }
}

/// The pods that use a volume that is to be attached, by their nodes.
fn users(volume: &PersistentVolume, view: &View) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut found: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    let Some(source) = csi::source(volume) else {
        return found;
    };
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let (Some(kept), true) = (
        kept,
        csi::is_attached(view.drivers.get("", &source.driver).as_deref()),
    ) else {
        return found;
    };
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (part(&kept.namespace), part(&kept.name));
    let claim = view.claims.get(&namespace, &name);
    if claim.is_none_or(|claim| !storage::is_bound(&claim) || !storage::is_kept_for(volume, &claim)) {
        return found;
    }
    for pod in view.pods.list_in(&namespace) {
        let placed = !pods::node_of(&pod).is_empty() && !pods::is_finished(&pod);
        if placed && storage::claims_of(&pod).any(|(used, _)| used == name) {
            found.entry(pods::node_of(&pod).to_owned()).or_default().push(pod);
        }
    }
    found
}

fn of_volume(volume: &str, view: &View) -> Vec<Arc<VolumeAttachment>> {
    let all = view.attachments.list().into_iter();
    all.filter(|one| volume_of(one) == volume).collect()
}

/// Whether it was made here. Somebody else's is somebody else's to take back.
fn is_ours(attachment: &VolumeAttachment) -> bool {
    let name = attachment.metadata.name.as_deref();
    name.is_some_and(csi::is_attachment_name)
}

/// The volume that is attached.
fn volume_of(attachment: &VolumeAttachment) -> &str {
    let name = &attachment.spec.source.persistent_volume_name;
    name.as_deref().unwrap_or_default()
}

fn attach(
    volume: &PersistentVolume,
    node: &str,
    users: &[Arc<Pod>],
    there: &[Arc<VolumeAttachment>],
    plan: &mut Plan,
) {
    let Some(source) = csi::source(volume) else {
        return;
    };
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if !there.is_empty() && is_exclusive(volume) {
        for pod in users {
            let text = format!(
                "Multi-Attach error for volume {name:?} Volume is already exclusively attached to one node and \
                 can't be attached to another"
            );
            plan.tell(pod.as_ref(), EventType::Warning, "FailedAttachVolume", text);
        }
        return;
    }
    plan.write(Write::create(&VolumeAttachment {
        metadata: ObjectMeta {
            name: Some(csi::attachment_name(&source.driver, &source.volume_handle, node)),
            ..ObjectMeta::default()
        },
        spec: VolumeAttachmentSpec {
            attacher: source.driver.clone(),
            node_name: node.to_owned(),
            source: VolumeAttachmentSource {
                persistent_volume_name: Some(name.to_owned()),
                inline_volume_spec: None,
            },
        },
        status: None,
    }));
}

/// Whether a volume may be attached to one node alone.
fn is_exclusive(volume: &PersistentVolume) -> bool {
    let modes = storage::modes(volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()));
    !modes
        .iter()
        .any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
}

/// Takes an attachment back once its node does not use the volume any more.
fn detach(
    one: &VolumeAttachment,
    volume: Option<&PersistentVolume>,
    view: &View,
    now: Timestamp,
    plan: &mut Plan,
) {
    let node = view.nodes.get("", &one.spec.node_name);
    let name = volume.and_then(unique_name);
    let used = node.as_deref().is_some_and(|node| {
        let uses = node
            .status
            .as_ref()
            .and_then(|status| status.volumes_in_use.as_ref());
        uses.is_some_and(|uses| name.as_ref().is_some_and(|name| uses.contains(name)))
    });
    if used && !node.is_some_and(|node| is_lost(&node, now)) {
        return plan.look_again(LOOK);
    }
    list(one, volume, false, view, plan);
    plan.write(Write::delete(one));
}

fn unique_name(volume: &PersistentVolume) -> Option<String> {
    let source = csi::source(volume)?;
    Some(csi::unique_name(&source.driver, &source.volume_handle))
}

/// Whether a node has not been ready for so long that nobody waits for it to let go.
fn is_lost(node: &Node, now: Timestamp) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready" && one.status != "True");
    ready.any(|one| {
        let since = one.last_transition_time.as_ref().map(|time| time.0);
        since.is_some_and(|since| now.duration_since(since) > LOST_NODE)
    })
}

/// Has the Node's list say what the attacher says, and tells the pods that wait for it.
fn settle(
    one: &VolumeAttachment,
    users: Option<&Vec<Arc<Pod>>>,
    volume: Option<&PersistentVolume>,
    view: &View,
    plan: &mut Plan,
) {
    let users = users.map(Vec::as_slice).unwrap_or_default();
    let volume_name = volume_of(one);
    let status = one.status.as_ref();
    let error = status.and_then(|status| status.attach_error.as_ref()?.message.clone());
    if let Some(error) = error {
        for pod in users {
            let text = format!("AttachVolume.Attach failed for volume {volume_name:?} : {error}");
            plan.tell(pod.as_ref(), EventType::Warning, "FailedAttachVolume", text);
        }
    }
    let attached = status.is_some_and(|status| status.attached) && !is_going(one);
    if list(one, volume, attached, view, plan) && attached {
        for pod in users {
            let text = format!("AttachVolume.Attach succeeded for volume {volume_name:?}");
            plan.tell(pod.as_ref(), EventType::Normal, "SuccessfulAttachVolume", text);
        }
    }
}

/// Has the Node's list name the volume, or not. Whether that changes anything.
fn list(
    one: &VolumeAttachment,
    volume: Option<&PersistentVolume>,
    attached: bool,
    view: &View,
    plan: &mut Plan,
) -> bool {
    let (Some(node), Some(name)) = (
        view.nodes.get("", &one.spec.node_name),
        volume.and_then(unique_name),
    ) else {
        return false;
    };
    let said = node
        .status
        .as_ref()
        .and_then(|status| status.volumes_attached.clone());
    let mut list: Vec<AttachedVolume> = said.unwrap_or_default();
    if attached == list.iter().any(|one| one.name == name) {
        return false;
    }
    list.retain(|one| one.name != name);
    if attached {
        list.push(AttachedVolume {
            name,
            device_path: String::new(),
        });
    }
    let patch = json!({"status": {"volumesAttached": list}});
    plan.write(Write::merge_status(node.as_ref(), patch));
    true
}

/// The volume that an attachment is about.
pub(super) fn volume_for_attachment(attachment: &VolumeAttachment, _: &View) -> Vec<Key> {
    vec![Key::new("", volume_of(attachment))]
}

/// The volumes that a pod uses.
pub(super) fn volumes_for_pod(pod: &Pod, view: &View) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims = storage::claims_of(pod).filter_map(|(name, _)| view.claims.get(namespace, &name));
    let names = claims.map(|claim| Key::new("", storage::volume_name(&claim)));
    names.filter(|key| !key.name.is_empty()).collect()
}

/// The volumes that are attached to a node.
pub(super) fn volumes_for_node(node: &Node, view: &View) -> Vec<Key> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let all = view.attachments.list().into_iter();
    all.filter(|one| one.spec.node_name == name)
        .map(|one| Key::new("", volume_of(&one)))
        .collect()
}

/// The volumes of a driver.
pub(super) fn volumes_for_driver(driver: &CSIDriver, view: &View) -> Vec<Key> {
    let name = driver.metadata.name.as_deref().unwrap_or_default();
    let all = view.volumes.list().into_iter();
    all.filter(|volume| csi::source(volume).is_some_and(|source| source.driver == name))
        .map(|volume| Key::of(volume.as_ref()))
        .collect()
}
