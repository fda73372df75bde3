//! Snapshots of volumes: the kinds of `snapshot.storage.k8s.io`. They are custom kinds, which a cluster has when
//! somebody applied their definitions; here is what of them is looked at. Who writes them patches them, so that
//! fields that are not here stay as they are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API group.
pub const GROUP: &str = "snapshot.storage.k8s.io";
/// The kind of what people ask for.
pub const SNAPSHOT: &str = "VolumeSnapshot";
/// On claims: a snapshot of it is being made.
pub const CLAIM_FINALIZER: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
/// On snapshots: they may be what a claim is being filled with.
pub const SOURCE_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// On snapshots: their content is to be deleted with them, and before them.
pub const BOUND_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// On contents: the driver's helper has to look after what they stand for before they go.
pub const CONTENT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// On contents: their snapshot is being deleted (the value is `yes`), so that the driver's helper may act.
pub const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// On contents: the Secret with which the driver is called.
pub const SECRET_NAME: &str = "snapshot.storage.kubernetes.io/deletion-secret-name";
/// On contents: the namespace of that Secret.
pub const SECRET_NAMESPACE: &str = "snapshot.storage.kubernetes.io/deletion-secret-namespace";
/// On classes: snapshots that name none get this one, if it is of their volume's driver.
pub const DEFAULT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// A snapshot of a volume, as people ask for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSnapshot {
    /// Name and so on.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: SnapshotSpec,
    /// What has become of it.
    pub status: Option<SnapshotStatus>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotSpec {
    /// Of what.
    pub source: SnapshotSource,
    /// How; `None` for the default.
    pub volume_snapshot_class_name: Option<String>,
}

/// What a snapshot is made of, or where it is already: one of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotSource {
    /// A claim, of whose volume one is to be made.
    pub persistent_volume_claim_name: Option<String>,
    /// A content that somebody wrote for a snapshot that the driver has already.
    pub volume_snapshot_content_name: Option<String>,
}

/// What has become of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotStatus {
    /// Its content.
    pub bound_volume_snapshot_content_name: Option<String>,
    /// As of when it is.
    pub creation_time: Option<String>,
    /// Whether volumes can be made from it.
    pub ready_to_use: Option<bool>,
    /// How large these must be, a quantity.
    pub restore_size: Option<Value>,
    /// What went wrong last.
    pub error: Option<SnapshotError>,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotError {
    /// When.
    pub time: Option<String>,
    /// What.
    pub message: Option<String>,
}

/// A snapshot as its driver has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSnapshotContent {
    /// Name and so on.
    pub metadata: ObjectMeta,
    /// What is asked of the driver.
    pub spec: ContentSpec,
    /// What the driver said.
    pub status: Option<ContentStatus>,
}

/// What is asked of the driver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentSpec {
    /// Whose snapshot it is.
    pub volume_snapshot_ref: ObjectReference,
    /// `Delete` or `Retain`: what becomes of the driver's snapshot after that one.
    pub deletion_policy: String,
    /// The driver's name.
    pub driver: String,
    /// How it is made.
    pub volume_snapshot_class_name: Option<String>,
    /// Of what.
    pub source: ContentSource,
}

/// What a driver is to make a snapshot of, or has one of already: one of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentSource {
    /// A volume, as the driver knows it.
    pub volume_handle: Option<String>,
    /// A snapshot, as the driver knows it.
    pub snapshot_handle: Option<String>,
}

/// What the driver said of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentStatus {
    /// What it knows the snapshot by.
    pub snapshot_handle: Option<String>,
    /// As of when it is, in nanoseconds since 1970.
    pub creation_time: Option<i64>,
    /// Whether volumes can be made from it.
    pub ready_to_use: Option<bool>,
    /// How many bytes these must have.
    pub restore_size: Option<i64>,
    /// What went wrong last.
    pub error: Option<SnapshotError>,
}

/// How snapshots are made, as administrators say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSnapshotClass {
    /// Name and so on.
    pub metadata: ObjectMeta,
    /// The driver's name.
    pub driver: String,
    /// `Delete` or `Retain`: what becomes of the driver's snapshots after the objects.
    pub deletion_policy: String,
    /// What the driver is told, and the names of Secrets for it.
    pub parameters: BTreeMap<String, String>,
}

macro_rules! kinds {
    ($($kind:ident: $scope:ident, $plural:literal;)*) => {
        $(impl k8s_openapi::Resource for $kind {
            const API_VERSION: &'static str = "snapshot.storage.k8s.io/v1";
            const GROUP: &'static str = GROUP;
            const KIND: &'static str = stringify!($kind);
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $kind {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })*

        /// The plurals of the kinds.
        pub const PLURALS: &[&str] = &[$($plural),*];
    };
}

kinds! {
    VolumeSnapshot: NamespaceResourceScope, "volumesnapshots";
    VolumeSnapshotContent: ClusterResourceScope, "volumesnapshotcontents";
    VolumeSnapshotClass: ClusterResourceScope, "volumesnapshotclasses";
}

impl VolumeSnapshot {
    /// Namespace and name, as messages have it.
    pub fn full_name(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&self.metadata.namespace), part(&self.metadata.name))
    }

    /// The name of the content that is made for it.
    pub fn content_to_make(&self) -> String {
        format!("snapcontent-{}", self.metadata.uid.as_deref().unwrap_or_default())
    }

    /// The content that its status names.
    pub fn bound_to(&self) -> Option<&str> {
        let name = self
            .status
            .as_ref()?
            .bound_volume_snapshot_content_name
            .as_deref();
        name.filter(|name| !name.is_empty())
    }

    /// Whether volumes can be made from it.
    pub fn is_ready(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.ready_to_use == Some(true))
    }

    /// Whether it is asked to be made of that claim of its namespace.
    pub fn is_of_claim(&self, name: &str) -> bool {
        self.spec.source.persistent_volume_claim_name.as_deref() == Some(name)
    }
}

impl VolumeSnapshotContent {
    /// Whether it is for that snapshot, or will be: the snapshot's UID may be missing, no other may be there.
    pub fn is_meant_for(&self, snapshot: &VolumeSnapshot) -> bool {
        let named = &self.spec.volume_snapshot_ref;
        let uid = named.uid.as_deref().unwrap_or_default();
        named.name == snapshot.metadata.name
            && named.namespace == snapshot.metadata.namespace
            && (uid.is_empty() || snapshot.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether it is that snapshot's, and nobody else's.
    pub fn is_bound_to(&self, snapshot: &VolumeSnapshot) -> bool {
        let uid = self.spec.volume_snapshot_ref.uid.as_deref().unwrap_or_default();
        !uid.is_empty() && self.is_meant_for(snapshot)
    }

    /// Whether the driver's snapshot goes with it.
    pub fn goes_with_snapshot(&self) -> bool {
        self.spec.deletion_policy == "Delete"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_content_knows_its_snapshot() {
        let snapshot: VolumeSnapshot = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "d", "uid": "u1"},
            "spec": {"source": {"persistentVolumeClaimName": "c"}, "later": 1}, "status": null,
        }))
        .unwrap();
        assert_eq!(snapshot.content_to_make(), "snapcontent-u1");
        assert!(snapshot.is_of_claim("c") && !snapshot.is_ready() && snapshot.bound_to().is_none());
        for (name, uid, meant, bound) in [
            ("s", Some("u1"), true, true),
            ("s", None, true, false),
            ("s", Some(""), true, false),
            ("s", Some("u2"), false, false),
            ("t", Some("u1"), false, false),
        ] {
            let content: VolumeSnapshotContent = serde_json::from_value(json!({
                "spec": {"volumeSnapshotRef": {"name": name, "namespace": "d", "uid": uid}, "deletionPolicy": "Retain"},
                "status": {"restoreSize": 5_000_000_000_i64},
            }))
            .unwrap();
            assert_eq!(
                (content.is_meant_for(&snapshot), content.is_bound_to(&snapshot)),
                (meant, bound)
            );
            assert!(!content.goes_with_snapshot());
        }
    }
}
