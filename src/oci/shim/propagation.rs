//! Whether what is mounted on one side of a volume later shows on the other (`mountPropagation`).
//!
//! The library knows one rule for all that a container has mounted. So this comes after it, before the container's
//! program begins. What is mounted inside goes out (`Bidirectional`) only from a copy of the machine's own mount, and
//! the shim has none: mounts come into its namespace and do not go out. It takes one where the agent lives.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::spec::Mount;

/// `Bidirectional`.
const OUT: &str = "Bidirectional";
/// `HostToContainer`.
const IN: &str = "HostToContainer";

/// The library's rule for a container with these mounts.
pub(super) fn of_all(mounts: &[Mount]) -> &'static str {
    match mounts.iter().any(propagates) {
        // Recursive by itself; `rslave`, as other runtimes have it, is refused by ours.
        true => "slave",
        false => "private",
    }
}

fn propagates(mount: &Mount) -> bool {
    [IN, OUT].contains(&mount.propagation.as_str())
}

/// Gives each mount of a container that has been created its own rule; `machine` is the agent's mount namespace.
///
/// # Errors
/// For a path on a mount that shows nothing to others, in the words that users of containerd know; the kernel's.
pub(super) fn apply(pid: Pid, machine: &OwnedFd, mounts: &[Mount]) -> io::Result<()> {
    if !mounts.iter().any(propagates) {
        return Ok(());
    }
    if let Some(why) = covered(mounts) {
        return Err(io::Error::other(why));
    }
    let take = || mounts.iter().map(copy).collect::<io::Result<Vec<_>>>();
    let copies = sys::mounts::with(machine, take)??;
    let inside = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let each = || {
        let mut all = mounts.iter().zip(&copies);
        all.try_for_each(|(mount, copy)| settle(mount, copy.as_ref()))
    };
    sys::mounts::with(inside, each)?
}

/// Why the mounts cannot be had together: a copy would be laid over what is mounted below its place.
fn covered(mounts: &[Mount]) -> Option<String> {
    let mut out = mounts.iter().filter(|mount| mount.propagation == OUT);
    out.find_map(|upper| {
        let below =
            |lower: &&Mount| lower.path != upper.path && Path::new(&lower.path).starts_with(&upper.path);
        let lower = mounts.iter().find(below)?;
        Some(format!(
            "{:?} is to be mounted below {:?}, whose mountPropagation is Bidirectional: this node does not mount \
             one in the other",
            lower.path, upper.path
        ))
    })
}

/// Looks at a mount's source where the agent lives; a copy of it, if mounts are to go out.
fn copy(wanted: &Mount) -> io::Result<Option<OwnedFd>> {
    if !propagates(wanted) {
        return Ok(None);
    }
    let opened = sys::beneath::open(&wanted.host, &wanted.inside)?;
    let found = sys::mounts::of(&opened)?;
    let out = wanted.propagation == OUT;
    if !(found.shared || found.slave && !out) {
        // Without a slash at its end where all of it is meant.
        let path: PathBuf = wanted
            .host
            .components()
            .chain(wanted.inside.components())
            .collect();
        let sorts = if out { "shared" } else { "shared or slave" };
        let text = format!(
            "path {path:?} is mounted on {:?} but it is not a {sorts} mount",
            found.at
        );
        return Err(io::Error::other(text));
    }
    out.then(|| sys::mounts::copy(opened)).transpose()
}

/// Inside the container: lays the copy over the library's mount, or keeps later mounts from coming in.
fn settle(wanted: &Mount, copy: Option<&OwnedFd>) -> io::Result<()> {
    let path = Path::new(&wanted.path);
    let change = |flags| mount(None::<&str>, path, None::<&str>, flags, None::<&str>);
    match copy {
        Some(copy) => {
            sys::mounts::attach(copy, path)?;
            if wanted.read_only {
                change(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY)?;
            }
        }
        None if !propagates(wanted) => change(MsFlags::MS_REC | MsFlags::MS_PRIVATE)?,
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, propagation: &str) -> Mount {
        Mount {
            host: "/h".into(),
            inside: "".into(),
            path: path.to_owned(),
            read_only: false,
            recursive: false,
            propagation: propagation.to_owned(),
        }
    }

    #[test]
    fn nothing_is_mounted_below_what_shows_its_mounts() {
        assert_eq!(covered(&[at("/a", OUT), at("/ab", ""), at("/b", IN)]), None);
        let why = covered(&[at("/a/b", ""), at("/a", OUT)]).unwrap();
        assert!(why.starts_with("\"/a/b\" is to be mounted below \"/a\""), "{why}");
    }

    #[test]
    fn mounts_come_in_only_where_some_are_to() {
        let mount = |propagation: &str| at("/p", propagation);
        assert_eq!(of_all(&[mount(""), mount("None")]), "private");
        assert_eq!(of_all(&[mount(""), mount("HostToContainer")]), "slave");
        assert_eq!(of_all(&[mount("Bidirectional")]), "slave");
    }
}
