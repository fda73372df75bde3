//! How full volumes are.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use plugins::csi::{NodeAbility, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, Unit};

use super::{Csi, PATIENCE, record};

/// How full a volume is.
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

impl Csi {
    /// How full the volume is that is shown at that path; `None` if it is no driver's, or the driver does not say.
    pub async fn fill(&self, shown: &Path) -> Option<Fill> {
        let record = record::read(shown.parent()?)?;
        let driver = self.drivers.get(&record.driver).ok()?;
        if !driver.can(NodeAbility::GetVolumeStats) {
            return None;
        }
        let stage = record::staged_at(&record::stage(&self.paths, &record.driver, &record.handle));
        let request = NodeGetVolumeStatsRequest {
            volume_id: record.handle,
            volume_path: shown.display().to_string(),
            staging_target_path: match stage.exists() {
                true => stage.display().to_string(),
                false => String::new(),
            },
        };
        let said = driver.plugin.call(request, PATIENCE).await;
        said.inspect_err(|status| tracing::debug!(%status, "a driver does not say how full a volume is"))
            .ok()
            .map(read)
    }
}

fn read(said: NodeGetVolumeStatsResponse) -> Fill {
    let mut fill = Fill::default();
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    for usage in said.usage {
        let all = (number(usage.total), number(usage.available), number(usage.used));
        match Unit::from_i32(usage.unit) {
            Some(Unit::Bytes) => fill.bytes = all,
            Some(Unit::Inodes) => fill.inodes = all,
            _ => {}
        }
    }
    fill
}
