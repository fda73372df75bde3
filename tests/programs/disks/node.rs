//! The node's half of the driver: bind mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use plugins::Status;
use plugins::csi::{
    AccessType, NodeAbility, NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeRpc,
    NodeServiceCapability, NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, Topology, Unit,
    VolumeCapability, VolumeUsage,
};

use crate::volumes::Volumes;

/// What keeps staging from ending.
const SLOW: &str = "slow";

impl Volumes {
    pub fn node_info(&self, _: NodeGetInfoRequest) -> Result<NodeGetInfoResponse, Status> {
        Ok(NodeGetInfoResponse {
            node_id: format!("id-of-{}", self.node),
            max_volumes_per_node: 2,
            accessible_topology: Some(Topology {
                segments: [("topology.disks.example.com/rack".to_owned(), "r1".to_owned())].into(),
            }),
        })
    }

    pub fn capabilities(&self, _: NodeGetCapabilitiesRequest) -> Result<NodeGetCapabilitiesResponse, Status> {
        let all = [
            NodeAbility::StageUnstageVolume,
            NodeAbility::GetVolumeStats,
            NodeAbility::ExpandVolume,
        ];
        let capability = |ability: NodeAbility| NodeServiceCapability {
            rpc: Some(NodeRpc {
                r#type: ability as i32,
            }),
        };
        Ok(NodeGetCapabilitiesResponse {
            capabilities: all.map(capability).to_vec(),
        })
    }

    pub async fn stage(&self, r: NodeStageVolumeRequest) -> Result<NodeStageVolumeResponse, Status> {
        self.note(format!(
            "NodeStageVolume {} {:?} {:?}",
            r.volume_id, r.publish_context, r.volume_context
        ));
        while self.folder.join(SLOW).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let source = self.at(&r.volume_id);
        if !source.exists() {
            return Err(Status::not_found(format!("no volume {}", r.volume_id)));
        }
        // A device is looked for when it is shown.
        if !is_block(r.volume_capability.as_ref()) {
            bind(&source, Path::new(&r.staging_target_path), false)?;
        }
        Ok(NodeStageVolumeResponse {})
    }

    pub fn unstage(&self, r: NodeUnstageVolumeRequest) -> Result<NodeUnstageVolumeResponse, Status> {
        self.note(format!("NodeUnstageVolume {}", r.volume_id));
        unbind(Path::new(&r.staging_target_path))?;
        Ok(NodeUnstageVolumeResponse {})
    }

    pub fn publish(&self, r: NodePublishVolumeRequest) -> Result<NodePublishVolumeResponse, Status> {
        let mut about: Vec<_> = r.volume_context.iter().collect();
        about.sort();
        self.note(format!(
            "NodePublishVolume {} {about:?} {:?}",
            r.volume_id, r.secrets
        ));
        let target = Path::new(&r.target_path);
        if is_block(r.volume_capability.as_ref()) {
            self.show_device(&r.volume_id, target)?;
            return Ok(NodePublishVolumeResponse {});
        }
        fs::create_dir_all(target).map_err(|error| Status::internal(error.to_string()))?;
        let own = self.at(&r.volume_id);
        let source = match r.staging_target_path.as_str() {
            // A pod's own volume is made here.
            "" => {
                fs::create_dir_all(&own).map_err(|error| Status::internal(error.to_string()))?;
                &own
            }
            staged => Path::new(staged),
        };
        bind(source, target, r.readonly)?;
        Ok(NodePublishVolumeResponse {})
    }

    pub fn unpublish(&self, r: NodeUnpublishVolumeRequest) -> Result<NodeUnpublishVolumeResponse, Status> {
        self.note(format!("NodeUnpublishVolume {}", r.volume_id));
        unbind(Path::new(&r.target_path))?;
        let _ = fs::remove_dir(&r.target_path);
        let _ = fs::remove_file(&r.target_path);
        if self.image(&r.volume_id).exists() {
            sys::loop_device::detach(&self.image(&r.volume_id))
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        // A pod's own volume goes with the pod.
        if r.volume_id.starts_with("csi-") {
            let _ = fs::remove_dir_all(self.at(&r.volume_id));
        }
        Ok(NodeUnpublishVolumeResponse {})
    }

    /// The file that stands for a volume's device.
    fn image(&self, id: &str) -> PathBuf {
        self.at(id).join("device")
    }

    /// Shows a volume as a device: a file of the pod's, on which the device's own is mounted.
    fn show_device(&self, id: &str, target: &Path) -> Result<(), Status> {
        let show = || -> std::io::Result<PathBuf> {
            let file = fs::File::options()
                .create(true)
                .append(true)
                .open(self.image(id))?;
            file.set_len(u64::try_from(self.size(id, "size")).unwrap_or(0))?;
            fs::File::options().create(true).append(true).open(target)?;
            sys::loop_device::attach(&self.image(id))
        };
        let device = show().map_err(|error| Status::internal(error.to_string()))?;
        bind(&device, target, false)
    }

    pub fn node_expand(&self, r: NodeExpandVolumeRequest) -> Result<NodeExpandVolumeResponse, Status> {
        let bytes = self.size(&r.volume_id, "size");
        self.note(format!("NodeExpandVolume {} {bytes}", r.volume_id));
        self.set_size(&r.volume_id, "grown", bytes);
        Ok(NodeExpandVolumeResponse {
            capacity_bytes: bytes,
        })
    }

    pub fn stats(&self, r: NodeGetVolumeStatsRequest) -> Result<NodeGetVolumeStatsResponse, Status> {
        let entries = fs::read_dir(&r.volume_path).map_err(|error| Status::not_found(error.to_string()))?;
        let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
        let used: i64 = sizes.map(|meta| meta.len() as i64).sum();
        let total = self.size(&r.volume_id, "grown");
        Ok(NodeGetVolumeStatsResponse {
            usage: vec![VolumeUsage {
                available: total - used,
                total,
                used,
                unit: Unit::Bytes as i32,
            }],
            volume_condition: None,
        })
    }
}

fn is_block(wanted: Option<&VolumeCapability>) -> bool {
    let access = wanted.and_then(|capability| capability.access_type.as_ref());
    matches!(access, Some(AccessType::Block(_)))
}

fn failed(error: nix::errno::Errno) -> Status {
    Status::internal(error.to_string())
}

/// Whether something is mounted there: another file system's folder may have the same device here, so the table
/// of mounts is asked.
fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|place| Path::new(place) == path)
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Status> {
    if is_mounted(target) {
        return Ok(());
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

fn unbind(target: &Path) -> Result<(), Status> {
    match is_mounted(target) {
        true => umount2(target, MntFlags::empty()).map_err(failed),
        false => Ok(()),
    }
}
