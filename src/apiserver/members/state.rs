//! How this server is.

use nix::sys::statvfs::statvfs;
use store::StoreError;

use super::Members;
use super::wire::{ServerStatus, id_text};
use crate::version;

/// Less of the disk than this is an alarm, in parts of a hundred.
const DISK_FREE_PERCENT: u64 = 5;

impl Members {
    /// How this server is, and what needs attention.
    ///
    /// # Errors
    /// When the store has ended.
    pub async fn state(&self) -> Result<ServerStatus, StoreError> {
        let status = self.store.status().await?;
        let leader = status.leadership.leader;
        let (disk_free_bytes, disk_bytes) = self.disk();
        let mut alarms = self.store.alarms();
        if leader.is_none() {
            alarms.push("no leader".to_owned());
        }
        if disk_bytes > 0 && disk_free_bytes < disk_bytes / 100 * DISK_FREE_PERCENT {
            alarms.push("disk almost full".to_owned());
        }
        alarms.extend(self.endings());
        Ok(ServerStatus {
            id: id_text(status.member),
            version: version::OURS.to_owned(),
            leader: leader.map(id_text).unwrap_or_default(),
            term: status.leadership.term,
            committed: status.committed,
            applied: status.applied,
            revision: status.revision,
            disk_free_bytes,
            disk_bytes,
            alarms,
        })
    }

    /// What is said of certificates that end soon.
    fn endings(&self) -> Vec<String> {
        let (now, pki) = (self.clock.now().as_second(), self.pki.as_ref());
        let endings = pki.map(|pki| pki.endings()).unwrap_or_default();
        endings.iter().filter_map(|ending| ending.alarm(now)).collect()
    }

    /// Bytes free on the disk with the data, and of it; zeros if nobody can say.
    fn disk(&self) -> (u64, u64) {
        statvfs(&self.data_dir).map_or((0, 0), |found| {
            let block = found.fragment_size();
            (found.blocks_available() * block, found.blocks() * block)
        })
    }
}
