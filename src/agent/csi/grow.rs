//! Volumes that were made larger: what lies on them has to grow too, while pods use it.

use std::path::Path;
use std::time::Duration;

use api::quantity::Quantity;
use api::request::PatchType;
use client::EventType;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, Volume,
};
use plugins::csi::{CapacityRange, NodeAbility, NodeExpandVolumeRequest};
use serde_json::{Value, json};

use super::drivers::Driver;
use super::record::{self, Record};
use super::wanted::Wanted;
use super::{Csi, PATIENCE, told};
use crate::node::machine::boot_id;

/// How often claims of volumes that are shown here are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// The condition by which a resizer says that the rest is the node's.
const PENDING: &str = "FileSystemResizePending";

impl Csi {
    /// Has the volumes that are shown here grow when their claims say that it is time. Never ends.
    pub async fn follow_growth(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let (shown, boot) = (record::shown(&self.paths).into_iter(), boot_id());
            let here = shown.filter(|(_, record)| !record.volume.is_empty() && record.boot == boot);
            for (folder, record) in here {
                if let Err(error) = self.look(&folder, &record).await {
                    tracing::warn!(
                        volume = record.volume,
                        error,
                        "a volume did not grow, trying again"
                    );
                }
            }
        }
    }

    async fn look(&self, folder: &Path, record: &Record) -> Result<(), String> {
        let (namespace, name) = &record.claim;
        let found = self.client.find::<PersistentVolumeClaim>(namespace, name).await;
        let Some(claim) = found.map_err(|status| status.message)?.filter(is_pending) else {
            return Ok(());
        };
        let volume = self.client.get::<PersistentVolume>("", &record.volume).await;
        let volume = volume.map_err(|status| status.message)?;
        let Some(wanted) = Wanted::of_claim(&volume, &claim, &Volume::default()) else {
            return Ok(());
        };
        let _turn = self.turn(&record.driver, &record.handle).await;
        let driver = self.drivers.get(&record.driver)?;
        let target = folder.join(record::TARGET);
        let stage = record::staged_at(&record::stage(&self.paths, &record.driver, &record.handle));
        let place = if stage.exists() { &stage } else { &target };
        self.grow(&driver, &wanted, record, &target, place).await?;
        self.tell(&claim, &wanted).await
    }

    /// Has a volume grow before its first use, if it was made larger since its claim was told of its size.
    pub(super) async fn grow_if_due(
        &self,
        driver: &Driver,
        wanted: &Wanted,
        record: &Record,
        target: &Path,
        place: &Path,
    ) -> Result<(), String> {
        let (size, held) = &wanted.sizes;
        if !wanted.is_persistent() || held.is_zero() || size <= held {
            return Ok(());
        }
        self.grow(driver, wanted, record, target, place).await?;
        let (namespace, name) = &wanted.claim;
        let claim = self.client.get::<PersistentVolumeClaim>(namespace, name).await;
        self.tell(&claim.map_err(|status| status.message)?, wanted).await
    }

    async fn grow(
        &self,
        driver: &Driver,
        wanted: &Wanted,
        record: &Record,
        target: &Path,
        stage: &Path,
    ) -> Result<(), String> {
        if !driver.can(NodeAbility::ExpandVolume) {
            return Ok(());
        }
        let request = NodeExpandVolumeRequest {
            volume_id: wanted.handle.clone(),
            volume_path: target.display().to_string(),
            capacity_range: Some(CapacityRange {
                required_bytes: wanted.sizes.0.value(),
                limit_bytes: 0,
            }),
            staging_target_path: stage.display().to_string(),
            volume_capability: Some(record.capability("")),
            secrets: self.secret_for_growth(wanted).await?,
        };
        let done = driver.plugin.call(request, PATIENCE).await;
        done.map(drop)
            .map_err(|status| format!("NodeExpandVolume failed: {}", told(&status)))
    }

    /// Tells the claim how large it is now.
    async fn tell(&self, claim: &PersistentVolumeClaim, wanted: &Wanted) -> Result<(), String> {
        let (namespace, name) = &wanted.claim;
        let patch = grown(claim, &wanted.sizes.0);
        let told = self
            .client
            .patch::<PersistentVolumeClaim>(namespace, name, PatchType::Merge, &patch, "status")
            .await;
        told.map_err(|status| status.message)?;
        let about = client::reference(claim);
        let text = format!(
            "MountVolume.NodeExpandVolume succeeded for volume {:?}",
            wanted.volume
        );
        self.recorder
            .event(&about, EventType::Normal, "FileSystemResizeSuccessful", text);
        Ok(())
    }
}

fn conditions(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &PersistentVolumeClaimCondition> {
    let status = claim.status.iter();
    status.flat_map(|status| status.conditions.iter().flatten())
}

fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    conditions(claim).any(|one| one.type_ == PENDING && one.status == "True")
}

/// The claim's status after it has grown: what was said of growing is over.
fn grown(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let left: Vec<_> = conditions(claim)
        .filter(|one| one.type_ != PENDING && one.type_ != "Resizing")
        .collect();
    let size = size.to_string();
    json!({
        "metadata": {"resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": {"storage": size}, "conditions": left, "allocatedResourceStatuses": {"storage": null}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_grew_says_only_its_size() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "c", "resourceVersion": "7"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}},
            "status": {"capacity": {"storage": "1Gi"}, "conditions": [
                {"type": PENDING, "status": "True"}, {"type": "Other", "status": "True"}]}}))
        .unwrap();
        assert!(is_pending(&claim));
        let patch = grown(&claim, &"2Gi".parse().unwrap());
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }
}
