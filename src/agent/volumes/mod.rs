//! Volumes: what they hold, where they lie, how containers see them.

pub mod atomic;
pub mod host;
pub mod make;
pub mod memory;
pub mod mounts;
pub mod payload;
pub mod tokens;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Volume;

pub use make::{VolumeError, VolumeMaker, references, unmount_below};
pub use mounts::MountPoint;
pub use tokens::Tokens;

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
    } else {
        return None;
    };
    Some(place(kind))
}
