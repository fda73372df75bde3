//! What a driver's csi-snapshotter does, and what its provisioner looks up to fill a volume.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PatchParams};
use plugins::csi::{
    ContentSource, CreateSnapshotRequest, DeleteSnapshotRequest, ListSnapshotsRequest, Snapshot,
    SnapshotSource, VolumeContentSource, VolumeSource,
};
use serde_json::{Value, json};

use crate::DRIVER;
use crate::helpers::{Failure, Helpers, bytes, patch};

const GROUP: &str = "snapshot.storage.k8s.io";
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
const SECRET_NAME: &str = "snapshot.storage.kubernetes.io/deletion-secret-name";
const SECRET_NAMESPACE: &str = "snapshot.storage.kubernetes.io/deletion-secret-namespace";

fn resource(kind: &str) -> ApiResource {
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", kind), &plural)
}

impl Helpers {
    fn contents(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource("VolumeSnapshotContent"))
    }

    /// Looks after the driver's contents, where there is such a kind.
    pub async fn snapshot(&self) -> Result<(), Failure> {
        let contents = match self.contents().list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            other => other?.items,
        };
        for content in contents
            .iter()
            .filter(|content| content.data["spec"]["driver"] == DRIVER)
        {
            if content.metadata.deletion_timestamp.is_some() {
                self.end(content).await?;
            } else if content.data["status"]["readyToUse"] != true {
                self.take(content).await?;
            }
        }
        Ok(())
    }

    async fn secrets(&self, content: &DynamicObject) -> Result<Secrets, Failure> {
        let notes = content.annotations();
        let (Some(name), Some(namespace)) = (notes.get(SECRET_NAME), notes.get(SECRET_NAMESPACE)) else {
            return Ok(Secrets::default());
        };
        let secret = Api::<Secret>::namespaced(self.client.clone(), namespace)
            .get(name)
            .await?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
            .collect())
    }

    /// Has the driver make a snapshot, or finds one that it has.
    async fn take(&self, content: &DynamicObject) -> Result<(), Failure> {
        let spec = &content.data["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let taken = if spec["source"]["volumeHandle"].is_string() {
            let request = CreateSnapshotRequest {
                source_volume_id: text(&spec["source"]["volumeHandle"]),
                name: format!("snapshot-{}", text(&spec["volumeSnapshotRef"]["uid"])),
                secrets: self.secrets(content).await?,
                ..CreateSnapshotRequest::default()
            };
            self.call(request).await.map(|made| made.snapshot)
        } else {
            let request = ListSnapshotsRequest {
                snapshot_id: text(&spec["source"]["snapshotHandle"]),
                ..ListSnapshotsRequest::default()
            };
            let found = self.call(request).await;
            found.map(|found| found.entries.into_iter().next().and_then(|entry| entry.snapshot))
        };
        let status = match taken {
            Ok(snapshot) => told(&snapshot.unwrap_or_default()),
            Err(error) => json!({"readyToUse": false, "error": {"time": Time(Timestamp::now()),
                "message": format!("Failed to create snapshot: {error}")}}),
        };
        self.contents()
            .patch_status(
                &content.name_any(),
                &PatchParams::default(),
                &patch(json!({"status": status})),
            )
            .await?;
        Ok(())
    }

    /// Removes the driver's snapshot with a content that says so, and lets the content go.
    async fn end(&self, content: &DynamicObject) -> Result<(), Failure> {
        if !content.annotations().contains_key(BEING_DELETED) {
            return Ok(());
        }
        let handle = content.data["status"]["snapshotHandle"].as_str();
        if let Some(handle) = handle.filter(|_| content.data["spec"]["deletionPolicy"] == "Delete") {
            let request = DeleteSnapshotRequest {
                snapshot_id: handle.to_owned(),
                secrets: self.secrets(content).await?,
            };
            self.call(request).await?;
        }
        let free = patch(json!({"metadata": {"finalizers": null}}));
        self.contents()
            .patch(&content.name_any(), &PatchParams::default(), &free)
            .await?;
        Ok(())
    }

    /// What a claim's volume is to be filled with.
    pub async fn source(
        &self,
        claim: &PersistentVolumeClaim,
    ) -> Result<Option<VolumeContentSource>, Failure> {
        let spec = claim.spec.clone().unwrap_or_default();
        let Some(source) = spec.data_source else {
            return Ok(None);
        };
        let requests = spec
            .resources
            .and_then(|resources| resources.requests)
            .unwrap_or_default();
        let wanted = requests.get("storage").map_or(0, |size| bytes(&size.0));
        let namespace = claim.namespace().unwrap_or_default();
        let (source, least) = if source.kind == "VolumeSnapshot" {
            self.kept(&namespace, &source.name).await?
        } else {
            self.used(&namespace, &source.name).await?
        };
        if wanted < least {
            return Err(format!("requested volume size {wanted} is less than the size {least}").into());
        }
        Ok(Some(VolumeContentSource { r#type: Some(source) }))
    }

    /// A snapshot, and how large a volume of it must be.
    async fn kept(&self, namespace: &str, name: &str) -> Result<(ContentSource, i64), Failure> {
        let snapshots: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("VolumeSnapshot"));
        let status = snapshots.get(name).await?.data["status"].take();
        if status["readyToUse"] != true {
            return Err(format!("snapshot {name} is not Ready").into());
        }
        let content = status["boundVolumeSnapshotContentName"]
            .as_str()
            .unwrap_or_default();
        let content = self.contents().get(content).await?;
        if content.data["spec"]["driver"] != DRIVER {
            return Err(format!("snapshot {name} is another driver's").into());
        }
        let handle = content.data["status"]["snapshotHandle"]
            .as_str()
            .unwrap_or_default();
        let source = SnapshotSource {
            snapshot_id: handle.to_owned(),
        };
        let least = status["restoreSize"].as_str().map_or(0, bytes);
        Ok((ContentSource::Snapshot(source), least))
    }

    /// A claim's volume, and its size.
    async fn used(&self, namespace: &str, name: &str) -> Result<(ContentSource, i64), Failure> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let claim = claims.get(name).await?;
        let volume = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .ok_or("the claim is not bound")?;
        let had = claim
            .status
            .and_then(|status| status.capacity)
            .unwrap_or_default();
        let least = had.get("storage").map_or(0, |size| bytes(&size.0));
        // This driver's volumes are called as their PersistentVolumes are.
        let source = VolumeSource { volume_id: volume };
        Ok((ContentSource::Volume(source), least))
    }
}

type Secrets = std::collections::HashMap<String, String>;

/// A snapshot as contents have it.
fn told(snapshot: &Snapshot) -> Value {
    let at = snapshot.creation_time.clone().unwrap_or_default();
    json!({"snapshotHandle": snapshot.snapshot_id, "readyToUse": snapshot.ready_to_use, "error": null,
        "restoreSize": snapshot.size_bytes, "creationTime": at.seconds * 1_000_000_000 + i64::from(at.nanos)})
}
