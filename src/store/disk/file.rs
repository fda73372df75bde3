//! A file of a disk.

use std::io;

/// What a disk writes at once, or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// One open file.
pub trait DiskFile: Send + Sync {
    /// The file's size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads exactly `buffer.len()` bytes at `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all bytes at `offset`, within the file's size. They survive a
    /// power cut only after [`sync`](Self::sync). What is behind them in their
    /// last sector may become zeros.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written to the file survives a power cut. After
    /// an error nobody knows what did: the caller must not go on.
    fn sync(&self) -> io::Result<()>;
}
