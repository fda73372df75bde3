//! A file that is written past the page cache, in sectors. Appending a record costs the device the sectors that it
//! touches, and not whole pages; and the kernel neither keeps nor writes back what nobody reads.
//!
//! File systems and devices that cannot do this are written the ordinary way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::file::{DiskFile, SECTOR_BYTES};

/// A sector's size, in memory.
const SECTOR: usize = SECTOR_BYTES as usize;

/// An open file.
pub struct Direct {
    /// For reading, and for writing where the other one is refused.
    plain: File,
    writing: Mutex<Writing>,
}

struct Writing {
    /// None where it is refused.
    direct: Option<File>,
    /// The beginning of the sector in which the last write ended, if that is known to be on the disk.
    begun: Option<(u64, Vec<u8>)>,
    /// Memory for what is written; the part that is used begins at a multiple of a sector.
    buffer: Vec<u8>,
}

impl Direct {
    /// Of a file that is open for reading and writing, and its path.
    pub fn new(plain: File, path: &Path) -> Direct {
        let mut options = OpenOptions::new();
        let direct = options.write(true).custom_flags(libc::O_DIRECT).open(path).ok();
        Direct {
            plain,
            writing: Mutex::new(Writing {
                direct,
                begun: None,
                buffer: vec![],
            }),
        }
    }
}

impl DiskFile for Direct {
    fn size(&self) -> io::Result<u64> {
        Ok(self.plain.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.plain.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match writing.write(&self.plain, offset, bytes) {
            // The device's sectors are larger, or its file system only pretended.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                writing.direct = None;
                self.plain.write_all_at(bytes, offset)
            }
            written => written,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.plain.sync_data()
    }
}

impl Writing {
    fn write(&mut self, plain: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(direct) = &self.direct else {
            return plain.write_all_at(bytes, offset);
        };
        let start = offset / SECTOR_BYTES * SECTOR_BYTES;
        let lead = (offset - start) as usize;
        let length = (lead + bytes.len()).next_multiple_of(SECTOR);
        if self.buffer.len() < length + SECTOR {
            self.buffer.resize(length + SECTOR, 0);
        }
        let skipped = self.buffer.as_ptr().align_offset(SECTOR).min(SECTOR);
        let sectors = &mut self.buffer[skipped..skipped + length];
        let begun = self.begun.take();
        match begun.filter(|(at, begun)| *at == start && begun.len() >= lead) {
            Some((_, begun)) => sectors[..lead].copy_from_slice(&begun[..lead]),
            None => plain.read_exact_at(&mut sectors[..lead], start)?,
        }
        let end = lead + bytes.len();
        sectors[lead..end].copy_from_slice(bytes);
        sectors[end..].fill(0);
        direct.write_all_at(sectors, start)?;
        let last = end / SECTOR * SECTOR;
        self.begun = Some((start + last as u64, sectors[last..end].to_vec()));
        // One huge batch must not hold its memory for ever.
        if self.buffer.len() > 1 << 20 {
            self.buffer = vec![];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever its length and place, what was written is there, and so is what was there before it.
    #[test]
    fn records_stand_one_behind_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, [0xaa; 16 << 10]).expect("a file");
        let open = || {
            let mut options = OpenOptions::new();
            Direct::new(
                options.read(true).write(true).open(&path).expect("opening"),
                &path,
            )
        };
        let (mut file, mut expected) = (open(), vec![]);
        for (nth, length) in [100, 1, 411, 512, 513, 1500, 3, 4096, 700, 9]
            .into_iter()
            .enumerate()
        {
            let record = vec![nth as u8 + 1; length];
            file.write_at(expected.len() as u64, &record).expect("a write");
            file.sync().expect("a sync");
            expected.extend(record);
            if nth == 5 {
                // Nothing is remembered of the sector in which it goes on.
                file = open();
            }
            let mut seen = vec![0; expected.len()];
            file.read_at(0, &mut seen).expect("a read");
            assert_eq!(seen, expected);
        }
        let behind = expected.len().next_multiple_of(SECTOR);
        assert_eq!(std::fs::read(&path).expect("the file")[behind], 0xaa);
    }
}
