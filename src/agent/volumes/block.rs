//! Volumes that are devices (`volumeMode: Block`): which device of this machine a container gets.
//!
//! The pod's folder links to a device, or to a file of the built-in provisioner that a loop device stands for. Loop
//! devices have other numbers after each start of the machine, so nothing remembers them: they are found by their file.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PersistentVolume, Pod, Volume};

use super::local_path;
use crate::pods::spec;

/// What it may do with a device: read, write, make.
const ALL: &str = "rwm";
/// Of a claim that is shown to be read.
const READ: &str = "r";

/// Whether a volume is a device.
pub fn is_block(volume: &PersistentVolume) -> bool {
    let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode == Some("Block")
}

/// Whether the pod's containers use a volume as what it is.
///
/// # Errors
/// The kubelet's text.
pub fn check_use(pod: &Pod, name: &str, block: bool) -> Result<(), String> {
    let mut containers = spec::all_containers(pod);
    let used_as_other = containers.any(|(_, c)| match block {
        true => c.volume_mounts.iter().flatten().any(|mount| mount.name == name),
        false => c
            .volume_devices
            .iter()
            .flatten()
            .any(|device| device.name == name),
    });
    match (used_as_other, block) {
        (false, _) => Ok(()),
        (true, true) => Err(format!(
            "volume {name} has volumeMode Block, but is specified in volumeMounts"
        )),
        (true, false) => Err(format!(
            "volume {name} has volumeMode Filesystem, but is specified in volumeDevices"
        )),
    }
}

/// The devices that a container's `volumeDevices` name, with the links in the pod's folder that lead to them.
///
/// # Errors
/// The text behind `CreateContainerConfigError`.
pub fn wanted(
    pod: &Pod,
    container: &Container,
    link: impl Fn(&Volume) -> Result<PathBuf, String>,
) -> Result<Vec<oci::Device>, String> {
    let volumes = spec::spec(pod).volumes.as_deref().unwrap_or_default();
    let mut devices = Vec::new();
    for asked in container.volume_devices.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == asked.name);
        let volume = volume.ok_or_else(|| format!("volume {:?} not found in the pod", asked.name))?;
        let claim = volume.persistent_volume_claim.as_ref();
        let to_read = claim.is_some_and(|claim| claim.read_only == Some(true));
        devices.push(oci::Device {
            host: link(volume)?,
            path: asked.device_path.clone(),
            permissions: if to_read { READ } else { ALL }.to_owned(),
        });
    }
    Ok(devices)
}

/// Puts the devices themselves in place of the links. Blocks.
///
/// # Errors
/// A link that leads to no device, or a machine without loop devices.
pub fn open(devices: &mut [oci::Device]) -> Result<(), String> {
    for device in devices {
        device.host = behind(&device.host)?;
    }
    Ok(())
}

/// The device that a link leads to, made where it is a file.
fn behind(link: &Path) -> Result<PathBuf, String> {
    let path = fs::canonicalize(link).map_err(|error| format!("{}: {error}", link.display()))?;
    let found = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if found.file_type().is_block_device() {
        return Ok(path);
    }
    if !found.is_file() {
        return Err(format!("{} is not a block device", path.display()));
    }
    sys::loop_device::attach(&path).map_err(|error| format!("a loop device for {}: {error}", path.display()))
}

/// Frees the loop devices of files that a pod's folder links to and no other pod's does. Blocks.
pub fn release(pods: &Path, pod_uid: &str) {
    for link in local_path::links(&pods.join(pod_uid)) {
        let Ok(file) = fs::read_link(&link) else { continue };
        let is_file = fs::symlink_metadata(&file).is_ok_and(|found| found.is_file());
        let used = local_path::showing(pods, &file).any(|other| other != link);
        if is_file
            && !used
            && let Err(error) = sys::loop_device::detach(&file)
        {
            tracing::warn!(file = %file.display(), %error, "a loop device was not freed");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "raw", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}},
                {"name": "files", "persistentVolumeClaim": {"claimName": "d"}}],
            "containers": [{"name": "a", "volumeDevices": [{"name": "raw", "devicePath": "/dev/xvda"}],
                "volumeMounts": [{"name": "files", "mountPath": "/data"}]}]}}))
        .unwrap()
    }

    #[test]
    fn volumes_are_used_as_what_they_are() {
        let pod = pod();
        assert_eq!(check_use(&pod, "raw", true), Ok(()));
        assert_eq!(check_use(&pod, "files", false), Ok(()));
        assert_eq!(
            check_use(&pod, "raw", false).unwrap_err(),
            "volume raw has volumeMode Filesystem, but is specified in volumeDevices"
        );
        assert_eq!(
            check_use(&pod, "files", true).unwrap_err(),
            "volume files has volumeMode Block, but is specified in volumeMounts"
        );
    }

    #[test]
    fn a_claim_to_be_read_is_a_device_to_be_read() {
        let pod = pod();
        let container = &spec::spec(&pod).containers[0];
        let made = wanted(&pod, container, |volume| {
            Ok(Path::new("/links").join(&volume.name))
        })
        .unwrap();
        let [device] = made.as_slice() else {
            panic!("{made:?}")
        };
        assert_eq!(
            (
                device.host.as_path(),
                device.path.as_str(),
                device.permissions.as_str()
            ),
            (Path::new("/links/raw"), "/dev/xvda", "r")
        );
    }

    #[test]
    fn what_is_no_device_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let why = behind(temp.path()).unwrap_err();
        assert!(why.ends_with("is not a block device"), "{why}");
        assert!(behind(&temp.path().join("none")).is_err());
    }
}
