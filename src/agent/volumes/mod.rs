//! Volumes: what they hold, where they lie, how containers see them.

pub mod atomic;
pub mod host;
pub mod image;
pub mod local_path;
pub mod make;
pub mod memory;
pub mod mounts;
pub mod ownership;
pub mod payload;
pub mod persistent;
pub mod tokens;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Volume;

pub use local_path::LocalPaths;
pub use make::{VolumeError, VolumeMaker, references, unmount_below};
pub use mounts::MountPoint;
pub use tokens::Tokens;

/// The kind of volumes that are links to what a claim means.
const PERSISTENT: &str = "persistent";

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
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        PERSISTENT
    } else {
        return None;
    };
    Some(place(kind))
}
