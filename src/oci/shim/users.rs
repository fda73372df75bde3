//! The users of a pod that has its own (`hostUsers: false`): its user namespace, to which all of its namespaces
//! belong, and files that are shown as its users'.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};

use crate::spec::PodSpec;

/// Covered, in the shim's own namespace, by a file system in memory on which containers' file systems are put
/// together: root in the container must get there, who is nobody outside and cannot enter the node's data folder.
/// Nothing else wants it here, since such a pod has a shared memory of its own.
const STAGE: &str = "/dev/shm";

/// A pod's own users.
pub(crate) struct Users {
    namespace: OwnedFd,
    /// The id on this machine that stands for root; the others follow.
    pub(super) first: u32,
}

impl Users {
    /// The users of a pod: the namespace is the one that its network belongs to.
    pub(super) fn of(pod: &PodSpec) -> io::Result<Option<Users>> {
        let (Some(first), Some(netns)) = (pod.users, &pod.netns) else {
            return Ok(None);
        };
        let namespace = sys::userns::owner(sys::netns::open(netns)?)?;
        Ok(Some(Users { namespace, first }))
    }

    /// Enters namespaces of these kinds that belong to the users. (Whoever makes some for themselves owns them.)
    pub(super) fn enter_own(&self, kinds: &[(&str, CloneFlags)]) -> io::Result<()> {
        let all = kinds
            .iter()
            .fold(CloneFlags::empty(), |all, (_, kind)| all | *kind);
        let holder = sys::userns::create_in(&self.namespace, all)?;
        for (name, kind) in kinds {
            setns(fs::File::open(holder.file(name))?, *kind)?;
        }
        Ok(())
    }

    /// Runs `work` as the pod's root: some settings of its namespaces are theirs, and not the machine's root's.
    pub(super) fn as_root<R>(&self, work: impl FnOnce() -> R) -> io::Result<R> {
        nix::unistd::seteuid(self.first.into())?;
        let result = work();
        nix::unistd::seteuid(0.into())?;
        Ok(result)
    }

    /// Binds a file or folder where these users see theirs.
    pub(super) fn bind(&self, from: impl AsFd, place: &Path) -> io::Result<()> {
        sys::userns::bind_mapped(from, place, &self.namespace).map_err(|error| {
            let text = format!(
                "{error} (for `hostUsers: false` its file system must be able to show files as other users': \
                 ext4, xfs and btrfs are from Linux 5.19 on, memory from 6.3 on)"
            );
            io::Error::new(error.kind(), text)
        })
    }

    /// A path to the namespace, good in the shim and what it starts.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.namespace.as_raw_fd())
    }

    pub(super) fn namespace(&self) -> &OwnedFd {
        &self.namespace
    }
}

/// The folder on which the pod's file systems are put together: its own, unless its root could not get there.
pub(super) fn stage(dir: &Path, users: Option<&Users>) -> io::Result<PathBuf> {
    if users.is_none() {
        return Ok(dir.to_owned());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some("stage"), STAGE, Some("tmpfs"), flags, Some("mode=0711"));
    mounted.map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{STAGE}: {error}")))?;
    Ok(PathBuf::from(STAGE))
}
