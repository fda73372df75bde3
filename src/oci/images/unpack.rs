//! Unpacks a layer's archive for overlayfs.
//!
//! The archive comes from strangers. What it holds is placed by [`place`];
//! here it is read, within the limits of its budget.

mod place;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use place::Root;
use tar::{Archive, EntryType};

use super::ImageError;
use super::layers::BUFFER_BYTES;
use super::limits::{self, Budget};

/// Most bytes that the headers of one entry (long names, attributes) may take:
/// they are read into memory.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// Longest name, as the kernel's own for paths.
const NAME_BYTES_MAX: usize = 4096;

/// Unpacks `reader` into the empty folder `root`.
///
/// # Errors
/// When the archive is damaged, tries to leave the folder, or is too large.
pub(super) fn unpack(reader: &mut impl Read, root: &Path, budget: &mut Budget) -> Result<(), ImageError> {
    let broken = |error: io::Error| damaged(root, error);
    let mut place = Root::open(root)?;
    let left = Rc::new(Cell::new(u64::MAX));
    let mut archive = Archive::new(Headers {
        inner: reader,
        left: left.clone(),
    });
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut entries = archive.entries().map_err(broken)?;
    loop {
        left.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(broken)?;
        left.set(u64::MAX);
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            left.set(HEADER_BYTES_MAX);
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            continue;
        }
        budget.spend(entry.size())?;
        let name = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let path = clean(&name)?;
        if !path.as_os_str().is_empty() {
            place.entry(&mut entry, path, &mut buffer)?;
        }
        // What was not wanted of it.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
    }
    place.finish();
    Ok(())
}

/// Words a failure to read the archive, or to write what is in it.
fn damaged(root: &Path, error: io::Error) -> ImageError {
    if error.kind() == io::ErrorKind::StorageFull {
        return limits::no_room(root.parent().unwrap_or(root), "nothing is left");
    }
    ImageError::Unusable(format!("damaged layer: {error}"))
}

fn refuse(path: &Path, why: impl std::fmt::Display) -> ImageError {
    const SHOWN_MAX: usize = 200;
    let shown: String = path.display().to_string().chars().take(SHOWN_MAX).collect();
    ImageError::Unusable(format!("layer entry {shown:?}: {why}"))
}

/// A name within the layer, as if its root were the root: nothing leads above it.
fn clean(path: &Path) -> Result<PathBuf, ImageError> {
    if path.as_os_str().len() > NAME_BYTES_MAX {
        return Err(refuse(
            path,
            format!("its name has more than {NAME_BYTES_MAX} bytes"),
        ));
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse(path, "leaves the layer")),
        }
    }
    Ok(clean)
}

/// Ends the reading when an entry's headers take more than is left for them.
struct Headers<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.get().checked_sub(n as u64) {
            Some(left) => self.left.set(left),
            None => {
                let text = format!("an entry's headers have more than {HEADER_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(n)
    }
}
