//! Showing a volume to a pod: attached, staged, published, given to its group, grown.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Secret, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use plugins::csi::{NodeAbility, NodePublishVolumeRequest, NodeStageVolumeRequest};

use super::drivers::Driver;
use super::record::{self, Record};
use super::rules::{self, Rules};
use super::wanted::Wanted;
use super::{Csi, PATIENCE, told};
use crate::node::machine::boot_id;
use crate::pods::spec;
use crate::volumes::{Asked, ownership};

type Texts = BTreeMap<String, String>;

/// One volume on its way to one pod.
struct Way<'a> {
    csi: &'a Csi,
    pod: &'a Pod,
    wanted: &'a Wanted,
    driver: Driver,
    rules: Rules,
    record: Record,
    group: Option<ownership::Ownership>,
}

impl Csi {
    /// Shows a volume to a pod; may be repeated at any time. Gives the path on this machine.
    ///
    /// # Errors
    /// What the driver, or the cluster, says.
    pub async fn publish(&self, pod: &Pod, wanted: &Wanted, tokens: &Asked<'_>) -> Result<PathBuf, String> {
        let _turn = self.turn(&wanted.driver, &wanted.handle).await;
        let driver = self.drivers.get(&wanted.driver)?;
        let found = self.client.find::<CSIDriver>("", &wanted.driver).await;
        let rules = Rules(found.map_err(|status| status.message)?);
        rules.check(wanted)?;
        let record = wanted.record(&driver);
        let group = ownership::wanted(pod).filter(|_| rules.gives_to_group(wanted));
        let way = Way {
            csi: self,
            pod,
            wanted,
            driver,
            rules,
            record,
            group,
        };
        way.run(tokens).await
    }

    /// Whether a volume that is shown has to be shown again, with new tokens.
    pub async fn is_republished(&self, driver: &str) -> bool {
        let found = self.client.find::<CSIDriver>("", driver).await;
        found.is_ok_and(|found| Rules(found).is_republished())
    }

    async fn secret(&self, named: Option<&SecretReference>) -> Result<HashMap<String, String>, String> {
        let Some(named) = named else {
            return Ok(HashMap::new());
        };
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (part(&named.namespace), part(&named.name));
        let found = self.client.get::<Secret>(&namespace, &name).await;
        let secret = found.map_err(|status| {
            format!(
                "failed to find the secret {name} in the namespace {namespace}: {}",
                status.message
            )
        })?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
            .collect())
    }

    /// Credentials for growing.
    pub(super) async fn secret_for_growth(&self, wanted: &Wanted) -> Result<HashMap<String, String>, String> {
        self.secret(wanted.secrets.expand.as_ref()).await
    }
}

impl Way<'_> {
    async fn run(mut self, tokens: &Asked<'_>) -> Result<PathBuf, String> {
        let folder = self.csi.folder(spec::uid(self.pod), &self.wanted.name);
        let known = record::read(&folder);
        // Before the driver is asked for anything.
        self.record.boot = known.map(|known| known.boot).unwrap_or_default();
        record::write(&folder, &self.record)?;
        let context = match self.rules.is_attached() && self.wanted.is_persistent() {
            true => self.csi.attached(self.wanted).await?,
            false => Texts::new(),
        };
        let staged = self.stage(&context).await?;
        let target = folder.join(record::TARGET);
        self.show(&target, staged.as_deref(), context, tokens).await?;
        let place = staged.as_deref().unwrap_or(&target);
        self.csi
            .grow_if_due(&self.driver, self.wanted, &self.record, &target, place)
            .await?;
        self.give(&target).await?;
        self.record.boot = boot_id();
        record::write(&folder, &self.record)?;
        Ok(target)
    }

    fn capability(&self) -> plugins::csi::VolumeCapability {
        let mounts = self.driver.can(NodeAbility::VolumeMountGroup);
        let group = self.group.filter(|_| mounts).map(|to| to.group.to_string());
        self.record.capability(&group.unwrap_or_default())
    }

    /// Has the driver prepare the volume for all pods of the node, if it wants to.
    async fn stage(&self, context: &Texts) -> Result<Option<PathBuf>, String> {
        if !self.wanted.is_persistent() || !self.driver.can(NodeAbility::StageUnstageVolume) {
            return Ok(None);
        }
        let folder = record::stage(&self.csi.paths, &self.wanted.driver, &self.wanted.handle);
        let place = record::staged_at(&folder);
        let fail = |error: std::io::Error| format!("{}: {error}", place.display());
        let boot = boot_id();
        if record::read(&folder).is_some_and(|known| known.boot == boot) {
            return Ok(Some(place));
        }
        let mut record = self.record.clone();
        record.boot.clear();
        record::write(&folder, &record)?;
        // What is staged on a device is a file of the driver's own making in this folder.
        fs::create_dir_all(&place).map_err(fail)?;
        let request = NodeStageVolumeRequest {
            volume_id: self.wanted.handle.clone(),
            publish_context: plain(context),
            staging_target_path: place.display().to_string(),
            volume_capability: Some(self.capability()),
            secrets: self.csi.secret(self.wanted.secrets.stage.as_ref()).await?,
            volume_context: plain(&self.wanted.attributes),
        };
        let done = self.driver.plugin.call(request, PATIENCE).await;
        done.map_err(|status| format!("MountVolume.MountDevice failed: {}", told(&status)))?;
        record.boot = boot;
        record::write(&folder, &record)?;
        Ok(Some(place))
    }

    /// Has the driver show it to the pod.
    async fn show(
        &self,
        target: &Path,
        staged: Option<&Path>,
        context: Texts,
        tokens: &Asked<'_>,
    ) -> Result<(), String> {
        let mut about = self.wanted.attributes.clone();
        about.extend(self.rules.about(self.pod, self.wanted));
        if let Some(tokens) = tokens.for_driver(self.rules.tokens()).await? {
            about.insert(rules::tokens_key(), tokens);
        }
        let request = NodePublishVolumeRequest {
            volume_id: self.wanted.handle.clone(),
            publish_context: plain(&context),
            staging_target_path: staged.map(|path| path.display().to_string()).unwrap_or_default(),
            target_path: target.display().to_string(),
            volume_capability: Some(self.capability()),
            readonly: self.wanted.read_only,
            secrets: self.csi.secret(self.wanted.secrets.publish.as_ref()).await?,
            volume_context: plain(&about),
        };
        let done = self.driver.plugin.call(request, PATIENCE).await;
        done.map(drop).map_err(|status| told(&status))
    }

    async fn give(&self, target: &Path) -> Result<(), String> {
        let Some(group) = self
            .group
            .filter(|_| !self.driver.can(NodeAbility::VolumeMountGroup))
        else {
            return Ok(());
        };
        let target = target.to_owned();
        let given = tokio::task::spawn_blocking(move || {
            ownership::give(&target, &group).map_err(|error| format!("{}: {error}", target.display()))
        });
        given.await.map_err(|error| error.to_string())?
    }
}

fn plain(texts: &Texts) -> HashMap<String, String> {
    texts.clone().into_iter().collect()
}
