//! Volumes: what they hold, where they lie, how containers see them.

pub mod asked;
pub mod atomic;
pub mod block;
pub mod empty_dir;
pub mod host;
pub mod image;
pub mod local_path;
pub mod make;
pub mod memory;
pub mod mounts;
pub mod nfs;
pub mod ownership;
pub mod payload;
pub mod persistent;
pub mod tokens;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Volume;

pub use asked::Asked;
pub use local_path::LocalPaths;
pub use make::{VolumeError, VolumeMaker, references, unmount_below};
pub use mounts::MountPoint;
pub use tokens::Tokens;

/// The kind of volumes that are links to what a claim, a driver or a server means.
const PERSISTENT: &str = "persistent";

/// Kinds of volumes that this node does not have, as pods and PersistentVolumes name them.
const UNSUPPORTED: [&str; 19] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "iscsi",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Says which kind of volume it is that this node does not have.
fn unsupported(source: &impl serde::Serialize) -> String {
    let source = serde_json::to_value(source).unwrap_or_default();
    let kind = UNSUPPORTED.iter().find(|kind| source.get(kind).is_some());
    match kind {
        Some(kind) => {
            format!("volumes of kind {kind} are not supported by this node; a CSI driver may have them")
        }
        None => "this kind of volume is not supported by this node".to_owned(),
    }
}

fn has_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// Where a volume lies: below a folder named after its kind, given by `place`,
/// or anywhere on the host. `None` for kinds that this node does not have.
fn kind_and_path(volume: &Volume, place: impl Fn(&str) -> PathBuf) -> Option<PathBuf> {
    if let Some(host) = &volume.host_path {
        return Some(PathBuf::from(&host.path));
    }
    let kind = if volume.empty_dir.is_some() {
        "empty-dir"
    } else if volume.config_map.is_some() {
        "configmap"
    } else if volume.secret.is_some() {
        "secret"
    } else if volume.projected.is_some() {
        "projected"
    } else if volume.downward_api.is_some() {
        "downward-api"
    } else if volume.image.is_some() {
        "image"
    } else if has_claim(volume) || volume.csi.is_some() || volume.nfs.is_some() {
        PERSISTENT
    } else {
        return None;
    };
    Some(place(kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_this_node_does_not_have_is_named() {
        let volume = |source: serde_json::Value| serde_json::from_value::<Volume>(source).unwrap();
        let iscsi = volume(json!({"name": "v", "iscsi": {"targetPortal": "t", "iqn": "i", "lun": 0}}));
        assert!(unsupported(&iscsi).starts_with("volumes of kind iscsi are not supported"));
        assert!(kind_and_path(&iscsi, |kind| kind.into()).is_none());
        let served = volume(json!({"name": "v", "nfs": {"server": "s", "path": "/p"}}));
        assert_eq!(
            kind_and_path(&served, |kind| kind.into()),
            Some(PathBuf::from(PERSISTENT))
        );
    }
}
