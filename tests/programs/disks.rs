//! A CSI driver for the scenarios, with its helpers: volumes are folders, shown by bind mounts.
//!
//! `disks FOLDER DATA-DIR NODE KUBECONFIG` serves `disks.example.com` on sockets below DATA-DIR, keeps volumes in
//! `FOLDER/volumes`, snapshots in `FOLDER/snapshots`, and writes every call into `FOLDER/calls`. Beside it run a
//! provisioner, an attacher, a resizer and a snapshotter, which speak to the cluster as those of Kubernetes do. While
//! `FOLDER/slow` exists, staging does not end; while `FOLDER/full` does, no snapshots are made.

#[path = "disks/helpers.rs"]
mod helpers;
#[path = "disks/node.rs"]
mod node;
#[path = "disks/snapshots.rs"]
mod snapshots;
#[path = "disks/snapshotter.rs"]
mod snapshotter;
#[path = "disks/volumes.rs"]
mod volumes;

use std::path::PathBuf;

use plugins::answer::{Answer, Asked, answer, serve, unknown};
use plugins::csi::{
    ControllerExpandVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest,
    GetPluginInfoRequest, GetPluginInfoResponse, ListSnapshotsRequest, NodeExpandVolumeRequest,
    NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, ProbeRequest,
    ProbeResponse,
};
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use plugins::{Call, Plugin};
use volumes::Volumes;

/// The driver's name.
pub const DRIVER: &str = "disks.example.com";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().expect("FOLDER DATA-DIR NODE KUBECONFIG");
    let (folder, data, node, kubeconfig) = (PathBuf::from(next()), PathBuf::from(next()), next(), next());
    let volumes = Volumes::new(folder, node);
    let socket = data.join("plugins").join(DRIVER).join("csi.sock");
    std::fs::create_dir_all(socket.parent().expect("a folder")).expect("a folder");
    let (door, endpoint) = (data.join("plugins_registry/disks-reg.sock"), socket.clone());
    std::fs::create_dir_all(door.parent().expect("a folder")).expect("a folder");
    let driver = {
        let socket = socket.clone();
        tokio::spawn(async move { serve(&socket, move |asked| dispatch(volumes.clone(), asked)).await })
    };
    let registration =
        tokio::spawn(async move { serve(&door, move |asked| introduce(endpoint.clone(), asked)).await });
    let helpers = tokio::spawn(helpers::run(Plugin::at(&socket), PathBuf::from(kubeconfig)));
    let ended = tokio::try_join!(driver, registration, helpers);
    panic!("something ended: {ended:?}");
}

async fn introduce(endpoint: PathBuf, asked: Asked) -> Answer {
    match asked.uri().path() {
        InfoRequest::METHOD => {
            let info = PluginInfo {
                r#type: "CSIPlugin".to_owned(),
                name: DRIVER.to_owned(),
                endpoint: endpoint.display().to_string(),
                supported_versions: vec!["1.0.0".to_owned()],
            };
            answer(asked, |_: InfoRequest| async { Ok(info) }).await
        }
        RegistrationStatus::METHOD => {
            answer(asked, |said: RegistrationStatus| async move {
                assert!(said.plugin_registered, "{}", said.error);
                Ok(RegistrationStatusResponse {})
            })
            .await
        }
        _ => unknown(&asked),
    }
}

async fn dispatch(v: Volumes, asked: Asked) -> Answer {
    match asked.uri().path() {
        GetPluginInfoRequest::METHOD => answer(asked, |_: GetPluginInfoRequest| async { Ok(info()) }).await,
        ProbeRequest::METHOD => answer(asked, |_: ProbeRequest| async { Ok(ProbeResponse::default()) }).await,
        CreateVolumeRequest::METHOD => answer(asked, |r| async move { v.create(r) }).await,
        DeleteVolumeRequest::METHOD => answer(asked, |r| async move { v.delete(r) }).await,
        ControllerPublishVolumeRequest::METHOD => answer(asked, |r| async move { v.attach(r) }).await,
        ControllerUnpublishVolumeRequest::METHOD => answer(asked, |r| async move { v.detach(r) }).await,
        ControllerExpandVolumeRequest::METHOD => answer(asked, |r| async move { v.expand(r) }).await,
        CreateSnapshotRequest::METHOD => answer(asked, |r| async move { v.cut(r) }).await,
        DeleteSnapshotRequest::METHOD => answer(asked, |r| async move { v.drop_snapshot(r) }).await,
        ListSnapshotsRequest::METHOD => answer(asked, |r| async move { v.list_snapshots(r) }).await,
        NodeGetInfoRequest::METHOD => answer(asked, |r| async move { v.node_info(r) }).await,
        NodeGetCapabilitiesRequest::METHOD => answer(asked, |r| async move { v.capabilities(r) }).await,
        NodeStageVolumeRequest::METHOD => answer(asked, |r| async move { v.stage(r).await }).await,
        NodeUnstageVolumeRequest::METHOD => answer(asked, |r| async move { v.unstage(r) }).await,
        NodePublishVolumeRequest::METHOD => answer(asked, |r| async move { v.publish(r) }).await,
        NodeUnpublishVolumeRequest::METHOD => answer(asked, |r| async move { v.unpublish(r) }).await,
        NodeExpandVolumeRequest::METHOD => answer(asked, |r| async move { v.node_expand(r) }).await,
        NodeGetVolumeStatsRequest::METHOD => answer(asked, |r| async move { v.stats(r) }).await,
        _ => unknown(&asked),
    }
}

fn info() -> GetPluginInfoResponse {
    GetPluginInfoResponse {
        name: DRIVER.to_owned(),
        vendor_version: "1".to_owned(),
        ..GetPluginInfoResponse::default()
    }
}
