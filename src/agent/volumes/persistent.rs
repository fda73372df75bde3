//! Volumes behind claims: which path of this machine a claim means.
//!
//! The pod's folder holds a symbolic link to it, which is also the record by which a node that starts
//! without a server knows the way.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use api::storage::{self, LOCAL_PATH, PROVISIONED_BY};
use client::Client;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use super::block::is_block;
use super::host::check_host_path;
use super::ownership::{self, Ownership};
use super::unsupported;
use crate::pods::spec;

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path on this machine.
    pub path: PathBuf,
    /// What has to be true of it.
    pub sort: Sort,
}

/// What sort of path it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Any path of the host, of that hostPath type; whose files are is not touched.
    Host(String),
    /// A folder that somebody prepared.
    Local,
    /// A folder of the built-in provisioner, made when it is first wanted.
    Made,
    /// A device of the machine.
    Device,
    /// A file of the built-in provisioner that stands for a device of so many bytes, made when it is first wanted.
    Image(u64),
}

impl Sort {
    /// Whether the built-in provisioner promised it.
    pub fn is_ours(&self) -> bool {
        matches!(self, Sort::Made | Sort::Image(_))
    }

    /// Whether its files can be given to a pod's group.
    fn has_files_to_give(&self) -> bool {
        matches!(self, Sort::Local | Sort::Made)
    }
}

/// Finds a claim's volume: the claim must be bound, and to a volume that says the same.
///
/// # Errors
/// The kubelet's text.
pub async fn find(
    client: &Client,
    pod: &Pod,
    claim: &str,
    own: bool,
) -> Result<(PersistentVolume, PersistentVolumeClaim), String> {
    let namespace = spec::namespace(pod);
    let fail = |why: String| format!("error processing PVC {namespace}/{claim}: {why}");
    let found = client.get::<PersistentVolumeClaim>(namespace, claim).await;
    let claim =
        found.map_err(|status| fail(format!("failed to fetch PVC from API server: {}", status.message)))?;
    if own {
        storage::is_own(pod, &claim).map_err(fail)?;
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(fail("PVC is being deleted".to_owned()));
    }
    if storage::claim_phase(&claim) != "Bound" || storage::volume_name(&claim).is_empty() {
        return Err(fail("PVC is not bound".to_owned()));
    }
    let name = storage::volume_name(&claim);
    let volume = client.get::<PersistentVolume>("", name).await;
    let volume = volume.map_err(|status| {
        fail(format!(
            "failed to fetch PV {name} from API server: {}",
            status.message
        ))
    })?;
    if !storage::is_kept_for(&volume, &claim) {
        return Err(fail(format!("PV {name} is bound to another claim")));
    }
    Ok((volume, claim))
}

/// Where the files of a volume are, on the node whose provisioned folders lie below `root`.
///
/// # Errors
/// A kind of volume that this node does not have.
pub fn place(volume: &PersistentVolume, root: &Path) -> Result<Place, String> {
    let empty = Default::default();
    let spec = volume.spec.as_ref().unwrap_or(&empty);
    let block = is_block(volume);
    if block && spec.local.is_none() {
        return Err(match spec.host_path {
            Some(_) => "volumes of kind hostPath are folders and files, and no devices: use a local volume"
                .to_owned(),
            None => unsupported(spec),
        });
    }
    if let Some(host) = &spec.host_path {
        let kind = host.type_.clone().unwrap_or_default();
        return Ok(Place {
            path: PathBuf::from(&host.path),
            sort: Sort::Host(kind),
        });
    }
    let Some(local) = &spec.local else {
        return Err(unsupported(spec));
    };
    let path = PathBuf::from(&local.path);
    // A path of our provisioner that is not right below our folder was written by somebody else.
    let ours = storage::note(&volume.metadata, PROVISIONED_BY) == LOCAL_PATH && path.parent() == Some(root);
    let sort = match (ours, block) {
        (true, true) => Sort::Image(u64::try_from(storage::capacity(volume).value()).unwrap_or(0)),
        (true, false) => Sort::Made,
        (false, true) => Sort::Device,
        (false, false) => Sort::Local,
    };
    Ok(Place { path, sort })
}

/// Checks or makes the place, gives it to the pod's group, and links it into the pod's folder.
///
/// # Errors
/// The disk, or a path that is not what it is said to be.
pub fn link(place: &Place, link: &Path, group: Option<&Ownership>) -> Result<(), String> {
    let path = &place.path;
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    match &place.sort {
        Sort::Host(kind) => check_host_path(path, kind)?,
        Sort::Local if !path.is_dir() => return Err(format!("path {:?} does not exist", path.display())),
        Sort::Local => {}
        Sort::Made => make(path).map_err(fail)?,
        Sort::Device => {
            let found = fs::metadata(path).map_err(fail)?;
            if !found.file_type().is_block_device() {
                return Err(format!("path {:?} is not a block device", path.display()));
            }
        }
        Sort::Image(size) => make_image(path, *size).map_err(fail)?,
    }
    if let Some(group) = group.filter(|_| place.sort.has_files_to_give()) {
        ownership::give(path, group).map_err(fail)?;
    }
    point(path, link)
}

/// Has a link in a pod's folder lead to a path; one that is there already stays.
///
/// # Errors
/// The disk.
pub fn point(path: &Path, link: &Path) -> Result<(), String> {
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    match symlink(path, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fail(error)),
        _ => Ok(()),
    }
}

/// A file of that size, which takes room on the disk only where something was written. One that is smaller grows.
fn make_image(path: &Path, size: u64) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.metadata()?.len() < size {
        true => file.set_len(size),
        false => Ok(()),
    }
}

/// A folder that any user of a container may use, whatever this process' mask is.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(spec: Value, by: &str) -> PersistentVolume {
        serde_json::from_value(
            json!({"metadata": {"name": "v", "annotations": {PROVISIONED_BY: by}}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn a_folder_is_made_only_where_ours_lie() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("local-path");
        let local =
            |path: &Path, by: &str| place(&volume(json!({"local": {"path": path}}), by), &root).unwrap();
        let ours = local(&root.join("pvc-1_d_data"), LOCAL_PATH);
        assert_eq!(ours.sort, Sort::Made);
        assert_eq!(local(&root.join("a/b"), LOCAL_PATH).sort, Sort::Local);
        assert_eq!(local(&root.join("pvc-1_d_data"), "else").sort, Sort::Local);
        let shown = temp.path().join("pods/u/volumes/persistent/data");
        link(&ours, &shown, None).unwrap();
        link(&ours, &shown, None).unwrap();
        assert_eq!(fs::read_link(&shown).unwrap(), root.join("pvc-1_d_data"));
        assert_eq!(fs::metadata(&shown).unwrap().permissions().mode() & 0o7777, 0o777);
        let missing = local(&temp.path().join("none"), "");
        assert!(
            link(&missing, &shown, None)
                .unwrap_err()
                .contains("does not exist")
        );
    }

    #[test]
    fn a_device_is_one_or_a_file_that_stands_for_one() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("local-path");
        let block = |path: &Path, by: &str| {
            let spec =
                json!({"local": {"path": path}, "volumeMode": "Block", "capacity": {"storage": "1Mi"}});
            place(&volume(spec, by), &root).unwrap()
        };
        let ours = block(&root.join("pvc-1_d_data"), LOCAL_PATH);
        assert_eq!(ours.sort, Sort::Image(1 << 20));
        assert!(ours.sort.is_ours());
        let shown = temp.path().join("pods/u/volumes/persistent/data");
        link(&ours, &shown, None).unwrap();
        fs::write(&ours.path, "x").unwrap();
        // What was written stays; what is too small grows.
        link(&ours, &shown, None).unwrap();
        assert_eq!(fs::metadata(&shown).unwrap().len(), 1 << 20);
        assert_eq!(fs::read(&shown).unwrap()[..2], *b"x\0");
        let other = block(&root.join("pvc-1_d_data"), "else");
        let why = link(&other, &shown, None).unwrap_err();
        assert!(why.contains("is not a block device"), "{why}");
    }

    #[test]
    fn what_this_node_cannot_mount_is_named() {
        let root = Path::new("/r");
        let block = volume(json!({"hostPath": {"path": "/dev/x"}, "volumeMode": "Block"}), "");
        assert!(place(&block, root).unwrap_err().contains("kind hostPath"));
        let fc = volume(json!({"fc": {"lun": 1}}), "");
        assert!(place(&fc, root).unwrap_err().contains("kind fc"));
        let host = volume(json!({"hostPath": {"path": "/x", "type": "Directory"}}), "");
        assert_eq!(
            place(&host, root).unwrap().sort,
            Sort::Host("Directory".to_owned())
        );
    }
}
