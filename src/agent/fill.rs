//! How full file systems are.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// How full a file system or a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes in all, free, and taken.
    pub bytes: (u64, u64, u64),
    /// The same in inodes.
    pub inodes: (u64, u64, u64),
}

impl Fill {
    /// That of the file system under a path. Blocks.
    pub fn of(path: &Path) -> Option<Fill> {
        let found = statvfs(path).ok()?;
        let block = found.fragment_size();
        let count = |all: u64, free: u64, usable: u64| (all, usable, all.saturating_sub(free));
        let (all, usable, used) = count(found.blocks(), found.blocks_free(), found.blocks_available());
        Some(Fill {
            bytes: (all * block, usable * block, used * block),
            inodes: count(found.files(), found.files_free(), found.files_available()),
        })
    }
}
