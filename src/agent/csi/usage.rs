//! How full drivers' volumes are.

use std::path::Path;

use plugins::csi::{NodeAbility, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, Unit};

use super::{Csi, PATIENCE, record};
use crate::fill::Fill;

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
