//! Folders of NFS servers, mounted by the kernel. Names are looked up here: the kernel wants addresses.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::memory::is_mounted;

/// The kind of these volumes, as the folder below a pod's.
pub const KIND: &str = "nfs";
/// Where servers listen.
const PORT: u16 = 2049;
/// What is tried, newest first, when nobody says which.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];

/// A folder of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    server: String,
    path: String,
    read_only: bool,
    options: Vec<String>,
}

impl Export {
    /// One that a pod names.
    pub fn of_pod(source: &NFSVolumeSource) -> Export {
        Export {
            server: source.server.clone(),
            path: source.path.clone(),
            read_only: source.read_only == Some(true),
            options: Vec::new(),
        }
    }

    /// One that a volume names.
    pub fn of_volume(volume: &PersistentVolume) -> Option<Export> {
        let spec = volume.spec.as_ref()?;
        Some(Export {
            options: spec.mount_options.clone().unwrap_or_default(),
            ..Export::of_pod(spec.nfs.as_ref()?)
        })
    }

    /// Mounts it, unless it is.
    ///
    /// # Errors
    /// Why the server is not found, or what the kernel says.
    pub async fn mount(self, place: &Path) -> Result<(), String> {
        let source = format!("{}:{}", self.server, self.path);
        let fail = |error: &dyn std::fmt::Display| format!("mount of {source} failed: {error}");
        let found = tokio::net::lookup_host((self.server.as_str(), PORT)).await;
        let address = found.map_err(|error| fail(&error))?.next();
        let address = address.ok_or_else(|| fail(&"the server has no address"))?.ip();
        let place = place.to_owned();
        let mounted = tokio::task::spawn_blocking(move || self.mount_at(address, &place));
        mounted.await.map_err(|error| error.to_string())?
    }

    fn mount_at(&self, address: IpAddr, place: &Path) -> Result<(), String> {
        if is_mounted(place) {
            return Ok(());
        }
        fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
        let (mut flags, text) = split(&self.options);
        if self.read_only {
            flags |= MsFlags::MS_RDONLY;
        }
        let source = format!("{}:{}", self.server, self.path);
        let mut last = Errno::EINVAL;
        for options in tries(&text, address) {
            match mount(
                Some(source.as_str()),
                place,
                Some("nfs"),
                flags,
                Some(options.as_str()),
            ) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            // Another version helps only where the server speaks another one.
            if !matches!(last, Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::ECONNREFUSED) {
                break;
            }
        }
        Err(format!("mount of {source} failed: {}", why(last)))
    }
}

/// What the kernel means.
fn why(error: Errno) -> String {
    match error {
        Errno::ENODEV => {
            "this machine's kernel has no NFS client (file system type \"nfs\" is not known to it): \
                          install or load its module nfs"
                .to_owned()
        }
        other => io::Error::from(other).to_string(),
    }
}

/// Options of mounts that are flags to the kernel, and the rest, which is text for NFS.
fn split(options: &[String]) -> (MsFlags, Vec<String>) {
    let (mut flags, mut text) = (MsFlags::empty(), Vec::new());
    for option in options {
        match option.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "rw" | "defaults" | "_netdev" | "" => {}
            other => text.push(other.to_owned()),
        }
    }
    (flags, text)
}

/// The texts to try: one for each version, or one alone if the options name it.
fn tries(options: &[String], address: IpAddr) -> Vec<String> {
    let named = |option: &String| option.starts_with("vers=") || option.starts_with("nfsvers=");
    let mut common = options.to_vec();
    common.push(format!("addr={address}"));
    if options.iter().any(named) {
        return vec![common.join(",")];
    }
    let with = |version: &&str| format!("{},vers={version}", common.join(","));
    VERSIONS.iter().map(with).collect()
}

/// Whether a path is the place of such a volume, and nothing is mounted on it: the machine was started again.
pub fn is_gone(place: &Path) -> bool {
    let kind = place.parent().and_then(Path::file_name);
    kind.is_some_and(|kind| kind == KIND) && !is_mounted(place)
}

/// Unmounts everything in a pod's folder of such volumes. Nothing in it may be removed before.
///
/// # Errors
/// What is still mounted.
pub fn unmount(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match umount2(&entry.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Not mounted.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
        // Never what is in it.
        fs::remove_dir(entry.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn options_are_flags_or_text() {
        let (flags, text) = split(&options(&["ro", "hard", "noatime", "nfsvers=4.1", "rw"]));
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_NOATIME);
        assert_eq!(text, ["hard", "nfsvers=4.1"]);
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(tries(&text, address), ["hard,nfsvers=4.1,addr=192.0.2.1"]);
        let all = tries(&[], address);
        assert_eq!((all.len(), all[0].as_str()), (4, "addr=192.0.2.1,vers=4.2"));
    }

    #[test]
    fn a_kernel_without_it_is_named() {
        assert!(why(Errno::ENODEV).contains("no NFS client"));
    }

    #[test]
    fn what_is_in_a_folder_that_is_not_mounted_stays() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("empty")).unwrap();
        unmount(temp.path()).unwrap();
        assert!(!temp.path().join("empty").exists());
        fs::create_dir_all(temp.path().join("full")).unwrap();
        fs::write(temp.path().join("full/data"), "").unwrap();
        assert!(unmount(temp.path()).is_err());
        assert!(temp.path().join("full/data").exists());
    }
}
