//! Unpacks a layer's archive for overlayfs.
//!
//! The archive comes from strangers. What it holds is placed by [`place`];
//! here it is read, within the limits of its budget.

mod names;
mod place;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use names::{clean, damaged};
use place::Root;
use tar::{Archive, EntryType};

use super::ImageError;
use super::limits::{BUFFER_BYTES, Budget};

/// Most bytes that the headers of one entry (long names, attributes) may take:
/// they are read into memory.
const HEADER_BYTES_MAX: u64 = 1 << 20;

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
