//! Parts of volumes, bound to places of their own while a container's root is put together.
//!
//! The runtime library is told paths, and whoever writes into a volume could make a link of one before it is
//! mounted. So what is meant is opened first, below the volume, and the library is told of a place that only the
//! shim can change. Volumes of pods with users of their own go the same way, for their files to be shown as those
//! users'.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::users::Users;
use crate::spec::Mount;

/// Where a mount's part is bound in the container's folder.
pub(super) fn place(dir: &Path, number: usize) -> PathBuf {
    dir.join("parts").join(number.to_string())
}

/// The parts that are bound; they are let go of when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Bound(Vec<PathBuf>);

/// Whether what is mounted is not what the library could be told of.
pub(super) fn has_place(mount: &Mount, users: Option<&Users>) -> bool {
    users.is_some() || !mount.inside.as_os_str().is_empty()
}

/// Binds those of the mounts that have a place of their own.
pub(super) fn bind(dir: &Path, mounts: &[Mount], users: Option<&Users>) -> io::Result<Bound> {
    let mut bound = Bound::default();
    for (number, wanted) in mounts.iter().enumerate() {
        if !has_place(wanted, users) {
            continue;
        }
        let place = place(dir, number);
        bind_one(wanted, &place, users).map_err(|error| {
            let (host, inside) = (wanted.host.display(), wanted.inside.display());
            io::Error::new(error.kind(), format!("{inside:?} of {host}: {error}"))
        })?;
        bound.0.push(place);
    }
    Ok(bound)
}

fn bind_one(wanted: &Mount, place: &Path, users: Option<&Users>) -> io::Result<()> {
    let opened = sys::beneath::open(&wanted.host, &wanted.inside)?;
    let from = sys::beneath::path_of(&opened);
    if fs::metadata(&from)?.is_dir() {
        fs::create_dir_all(place)?;
    } else {
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::File::create(place)?;
    }
    if let Some(users) = users {
        return users.bind(opened, place);
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(&from), place, None::<&str>, flags, None::<&str>)?)
}

impl Drop for Bound {
    fn drop(&mut self) {
        for place in &self.0 {
            // Lazily: the container has the same folder mounted by now, which this does not touch.
            if let Err(error) = umount2(place, MntFlags::MNT_DETACH) {
                eprintln!("shim: {} stays mounted: {error}", place.display());
            }
            // A folder or a file; whichever it is not is refused.
            let _ = fs::remove_dir(place).or_else(|_| fs::remove_file(place));
        }
    }
}
