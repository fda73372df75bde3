//! What runs beside a driver in a cluster: provisioner, attacher, resizer and snapshotter, in one loop.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttachment};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, ResourceExt as _};
use plugins::csi::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerPublishVolumeRequest,
    ControllerUnpublishVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest,
};
use plugins::{Call, Plugin};
use serde_json::{Value, json};

use crate::DRIVER;

const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const FINALIZER: &str = "external-attacher/disks-example-com";

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub struct Helpers {
    driver: Plugin,
    pub client: Client,
}

/// Never ends.
pub async fn run(driver: Plugin, kubeconfig: PathBuf) {
    let read = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(read, &Default::default()).await;
    let client = Client::try_from(config.expect("a configuration")).expect("a client");
    let helpers = Helpers { driver, client };
    loop {
        // The server may be away, somebody may have been quicker: it is looked at again.
        if let Err(error) = helpers.turn().await {
            eprintln!("disks: {error}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn patch(value: Value) -> Patch<Value> {
    Patch::Merge(value)
}

impl Helpers {
    async fn turn(&self) -> Result<(), Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volumes = volumes.list(&ListParams::default()).await?.items;
        let claims: Api<PersistentVolumeClaim> = Api::all(self.client.clone());
        self.snapshot().await?;
        for claim in claims.list(&ListParams::default()).await? {
            self.provision(&claim).await?;
            self.grow(&claim, &volumes).await?;
        }
        let attachments: Api<VolumeAttachment> = Api::all(self.client.clone());
        let attachments = attachments.list(&ListParams::default()).await?.items;
        for attachment in &attachments {
            self.attach(attachment, &volumes).await?;
        }
        for volume in &volumes {
            let name = Some(volume.name_any());
            let used = attachments
                .iter()
                .any(|one| one.spec.source.persistent_volume_name == name);
            self.reclaim(volume, used).await?;
        }
        Ok(())
    }

    pub async fn call<C: Call>(&self, request: C) -> Result<C::Reply, Failure> {
        Ok(self.driver.call(request, Duration::from_secs(30)).await?)
    }

    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let notes = claim.annotations();
        let spec = claim.spec.clone().unwrap_or_default();
        let ours = notes.get(PROVISIONER).map(String::as_str) == Some(DRIVER);
        if !ours || spec.volume_name.is_some() {
            return Ok(());
        }
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        let class = classes
            .get(&spec.storage_class_name.clone().unwrap_or_default())
            .await?;
        if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            && !notes.contains_key(SELECTED)
        {
            return Ok(());
        }
        let name = format!("pvc-{}", claim.uid().unwrap_or_default());
        let source = match self.source(claim).await {
            Ok(source) => source,
            // Others need not wait for what this one is to be filled with.
            Err(error) => {
                eprintln!("disks: {}: {error}", claim.name_any());
                return Ok(());
            }
        };
        let size = spec.resources.unwrap_or_default().requests.unwrap_or_default();
        let made = self
            .call(CreateVolumeRequest {
                name: name.clone(),
                capacity_range: Some(CapacityRange {
                    required_bytes: bytes(&size["storage"].0),
                    limit_bytes: 0,
                }),
                volume_content_source: source,
                ..CreateVolumeRequest::default()
            })
            .await?;
        let made = made.volume.unwrap_or_default();
        let volume = json!({"metadata": {"name": name, "annotations": {PROVISIONED_BY: DRIVER}}, "spec": {
            "capacity": size, "accessModes": spec.access_modes, "storageClassName": spec.storage_class_name,
            "persistentVolumeReclaimPolicy": class.reclaim_policy, "volumeMode": spec.volume_mode,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name_any(),
                "namespace": claim.namespace(), "uid": claim.uid()},
            "csi": {"driver": DRIVER, "volumeHandle": made.volume_id, "volumeAttributes": made.volume_context}}});
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes
            .create(&PostParams::default(), &serde_json::from_value(volume)?)
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    async fn grow(&self, claim: &PersistentVolumeClaim, volumes: &[PersistentVolume]) -> Result<(), Failure> {
        let spec = claim.spec.clone().unwrap_or_default();
        let volume = volumes
            .iter()
            .find(|volume| Some(volume.name_any()) == spec.volume_name);
        let Some(volume) = volume.filter(|volume| handle(volume).is_some()) else {
            return Ok(());
        };
        let size = |list: Option<&std::collections::BTreeMap<_, _>>| -> Option<i64> {
            let text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = list?.get("storage")?;
            Some(bytes(&text.0))
        };
        let requests = spec
            .resources
            .and_then(|resources| resources.requests)
            .unwrap_or_default();
        let wanted = size(Some(&requests)).unwrap_or(0);
        let had = size(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref())).unwrap_or(0);
        if wanted <= had {
            return Ok(());
        }
        self.call(ControllerExpandVolumeRequest {
            volume_id: handle(volume).unwrap_or_default(),
            capacity_range: Some(CapacityRange {
                required_bytes: wanted,
                limit_bytes: 0,
            }),
            ..ControllerExpandVolumeRequest::default()
        })
        .await?;
        let (all, params) = (
            Api::<PersistentVolume>::all(self.client.clone()),
            PatchParams::default(),
        );
        let capacity = json!({"spec": {"capacity": {"storage": requests["storage"]}}});
        all.patch(&volume.name_any(), &params, &patch(capacity)).await?;
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let pending = json!({"status": {"conditions": [{"type": "FileSystemResizePending", "status": "True",
            "lastTransitionTime": null, "message": "Waiting for user to (re-)start a pod to finish file system resize"}]}});
        claims
            .patch_status(&claim.name_any(), &params, &patch(pending))
            .await?;
        Ok(())
    }

    async fn attach(&self, one: &VolumeAttachment, volumes: &[PersistentVolume]) -> Result<(), Failure> {
        if one.spec.attacher != DRIVER {
            return Ok(());
        }
        let volume = volumes
            .iter()
            .find(|volume| Some(volume.name_any()) == one.spec.source.persistent_volume_name);
        let volume_id = volume.and_then(handle).unwrap_or_default();
        let (name, node_id) = (one.name_any(), format!("id-of-{}", one.spec.node_name));
        let (all, params) = (
            Api::<VolumeAttachment>::all(self.client.clone()),
            PatchParams::default(),
        );
        if one.metadata.deletion_timestamp.is_some() {
            let request = ControllerUnpublishVolumeRequest {
                volume_id,
                node_id,
                ..ControllerUnpublishVolumeRequest::default()
            };
            self.call(request).await?;
            let free = json!({"metadata": {"finalizers": null}});
            all.patch(&name, &params, &patch(free)).await?;
            return Ok(());
        }
        if one.status.as_ref().is_some_and(|status| status.attached) {
            return Ok(());
        }
        let kept = json!({"metadata": {"finalizers": [FINALIZER]}});
        all.patch(&name, &params, &patch(kept)).await?;
        let request = ControllerPublishVolumeRequest {
            volume_id,
            node_id,
            ..ControllerPublishVolumeRequest::default()
        };
        let said = self.call(request).await?;
        let status = json!({"status": {"attached": true, "attachmentMetadata": said.publish_context}});
        all.patch_status(&name, &params, &patch(status)).await?;
        Ok(())
    }

    async fn reclaim(&self, volume: &PersistentVolume, used: bool) -> Result<(), Failure> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let spec = volume.spec.as_ref();
        let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        let ours = volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(DRIVER);
        if used || !ours || phase != Some("Released") || policy != Some("Delete") {
            return Ok(());
        }
        let request = DeleteVolumeRequest {
            volume_id: handle(volume).unwrap_or_default(),
            ..DeleteVolumeRequest::default()
        };
        self.call(request).await?;
        let all = Api::<PersistentVolume>::all(self.client.clone());
        all.delete(&volume.name_any(), &DeleteParams::default()).await?;
        Ok(())
    }
}

fn handle(volume: &PersistentVolume) -> Option<String> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    (csi.driver == DRIVER).then(|| csi.volume_handle.clone())
}

/// Sizes of these tests are in `Mi`, `Gi` or plain bytes.
pub fn bytes(text: &str) -> i64 {
    let quantity: api::quantity::Quantity = text.parse().expect("a size");
    quantity.value()
}
