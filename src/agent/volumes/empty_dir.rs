//! Folders that begin empty and go with their pod: on the disk, in memory, in huge pages.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use nix::mount::{MsFlags, mount};

use super::memory::is_mounted;
use crate::huge_pages;

/// Where a folder's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// On the disk of the data folder.
    Disk,
    /// In memory, so many bytes at most; `None`: as many as the kernel gives, which is half of all.
    Memory(Option<u64>),
    /// In huge pages of so many bytes each.
    Huge(u64),
}

impl Medium {
    /// What a volume of that pod is made of.
    ///
    /// # Errors
    /// A medium that there is not, or huge pages that the pod does not ask for.
    pub fn of(empty: &EmptyDirVolumeSource, pod: &Pod) -> Result<Medium, String> {
        let size = empty
            .size_limit
            .as_ref()
            .and_then(|text| text.0.parse::<Quantity>().ok());
        let size = size.and_then(|size| u64::try_from(size.value()).ok());
        match empty.medium.as_deref().unwrap_or_default() {
            "" => Ok(Medium::Disk),
            "Memory" => Ok(Medium::Memory(size.filter(|bytes| *bytes > 0))),
            other => match huge_pages::of_medium(other, pod) {
                Some(page) => page.map(Medium::Huge),
                None => Err(format!(
                    "emptyDir with medium {other:?} is not supported by this node"
                )),
            },
        }
    }

    /// The kind of file system to mount, and its options; `None`: a folder is enough.
    fn file_system(self) -> Option<(&'static str, Option<String>)> {
        match self {
            Medium::Disk => None,
            Medium::Memory(size) => Some(("tmpfs", size.map(|bytes| format!("size={bytes}")))),
            Medium::Huge(page) => Some(("hugetlbfs", Some(format!("pagesize={page}")))),
        }
    }
}

/// Makes the folder for anybody, or for that group; one that is there already stays.
///
/// # Errors
/// The disk, or the kernel.
pub fn make(path: &Path, medium: Medium, group: Option<u32>) -> io::Result<()> {
    let mounted = medium.file_system();
    // After a reboot the folder of one in memory is there, but nothing is mounted on it.
    if path.is_dir() && (mounted.is_none() || is_mounted(path)) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if let Some((kind, options)) = mounted {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let mounted = mount(Some(kind), path, Some(kind), flags, options.as_deref());
        mounted.map_err(io::Error::from).inspect_err(|_| {
            // Without its mount the folder would pass for a finished volume next time.
            let _ = fs::remove_dir(path);
        })?;
    }
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_medium_is_a_file_system() {
        let of = |empty: serde_json::Value| {
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}]}});
            Medium::of(
                &serde_json::from_value(empty).unwrap(),
                &serde_json::from_value(pod).unwrap(),
            )
        };
        assert_eq!(of(json!({"sizeLimit": "1Mi"})), Ok(Medium::Disk));
        assert_eq!(
            of(json!({"medium": "Memory", "sizeLimit": "0"})),
            Ok(Medium::Memory(None))
        );
        let memory = of(json!({"medium": "Memory", "sizeLimit": "1Mi"})).unwrap();
        assert_eq!(
            memory.file_system(),
            Some(("tmpfs", Some("size=1048576".to_owned())))
        );
        let huge = of(json!({"medium": "HugePages"})).unwrap();
        assert_eq!(
            huge.file_system(),
            Some(("hugetlbfs", Some("pagesize=2097152".to_owned())))
        );
        assert!(
            of(json!({"medium": "Tape"}))
                .unwrap_err()
                .contains("medium \"Tape\"")
        );
    }
}
