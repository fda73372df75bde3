//! What is asked of a driver on a node: showing volumes to pods.

use std::collections::HashMap;

use super::{CapacityRange, Topology, VolumeCapability};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Unit {
    /// Not said.
    Unknown = 0,
    /// Bytes.
    Bytes = 1,
    /// Inodes.
    Inodes = 2,
}

/// What a driver can do on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum NodeAbility {
    /// Not said.
    Unknown = 0,
    /// Staging, before a volume is shown to pods.
    StageUnstageVolume = 1,
    /// Saying how full volumes are.
    GetVolumeStats = 2,
    /// Growing.
    ExpandVolume = 3,
    /// Saying whether volumes are well.
    VolumeCondition = 4,
    /// Telling one writer on a node from many.
    SingleNodeMultiWriter = 5,
    /// Giving files to a group itself.
    VolumeMountGroup = 6,
}

/// Prepare a volume on this node, for all its pods.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeStageVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// What attaching it said.
    #[prost(map = "string, string", tag = "2")]
    pub publish_context: HashMap<String, String>,
    /// Where.
    #[prost(string, tag = "3")]
    pub staging_target_path: String,
    /// How it is to be used.
    #[prost(message, optional, tag = "4")]
    pub volume_capability: Option<VolumeCapability>,
    /// Credentials.
    #[prost(map = "string, string", tag = "5")]
    pub secrets: HashMap<String, String>,
    /// The volume's.
    #[prost(map = "string, string", tag = "6")]
    pub volume_context: HashMap<String, String>,
}

/// It is prepared.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeStageVolumeResponse {}

/// Undo what staging did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnstageVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where.
    #[prost(string, tag = "2")]
    pub staging_target_path: String,
}

/// It is undone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnstageVolumeResponse {}

/// Show a volume to a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodePublishVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// What attaching it said.
    #[prost(map = "string, string", tag = "2")]
    pub publish_context: HashMap<String, String>,
    /// Where it is staged, if it is.
    #[prost(string, tag = "3")]
    pub staging_target_path: String,
    /// Where the pod sees it.
    #[prost(string, tag = "4")]
    pub target_path: String,
    /// How it is to be used.
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    /// Only to be read.
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    /// Credentials.
    #[prost(map = "string, string", tag = "7")]
    pub secrets: HashMap<String, String>,
    /// The volume's, and what is said of the pod.
    #[prost(map = "string, string", tag = "8")]
    pub volume_context: HashMap<String, String>,
}

/// It is shown.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodePublishVolumeResponse {}

/// Show it no longer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnpublishVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where.
    #[prost(string, tag = "2")]
    pub target_path: String,
}

/// It is not shown.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnpublishVolumeResponse {}

/// How full is a volume?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetVolumeStatsRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it is shown.
    #[prost(string, tag = "2")]
    pub volume_path: String,
    /// Where it is staged.
    #[prost(string, tag = "3")]
    pub staging_target_path: String,
}

/// How full it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetVolumeStatsResponse {
    /// In bytes, in inodes.
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<VolumeUsage>,
    /// Whether it is well.
    #[prost(message, optional, tag = "2")]
    pub volume_condition: Option<VolumeCondition>,
}

/// How much of a volume is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeUsage {
    /// Free.
    #[prost(int64, tag = "1")]
    pub available: i64,
    /// All.
    #[prost(int64, tag = "2")]
    pub total: i64,
    /// Taken.
    #[prost(int64, tag = "3")]
    pub used: i64,
    /// See [`Unit`].
    #[prost(enumeration = "Unit", tag = "4")]
    pub unit: i32,
}

/// Whether a volume is well.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeCondition {
    /// It is not.
    #[prost(bool, tag = "1")]
    pub abnormal: bool,
    /// Why.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What can you do?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetCapabilitiesRequest {}

/// What a driver can do on a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetCapabilitiesResponse {
    /// All of it.
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<NodeServiceCapability>,
}

/// One thing that it can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeServiceCapability {
    /// A call.
    #[prost(message, optional, tag = "1")]
    pub rpc: Option<NodeRpc>,
}

/// A call that a driver answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeRpc {
    /// See [`NodeAbility`].
    #[prost(enumeration = "NodeAbility", tag = "1")]
    pub r#type: i32,
}

/// What is this node to you?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetInfoRequest {}

/// What a node is to a driver.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetInfoResponse {
    /// Its name for the node.
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// How many volumes the node can have; 0 for no bound.
    #[prost(int64, tag = "2")]
    pub max_volumes_per_node: i64,
    /// What the node can reach.
    #[prost(message, optional, tag = "3")]
    pub accessible_topology: Option<Topology>,
}

/// Make what lies on a volume as large as the volume.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeExpandVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it is shown.
    #[prost(string, tag = "2")]
    pub volume_path: String,
    /// How large.
    #[prost(message, optional, tag = "3")]
    pub capacity_range: Option<CapacityRange>,
    /// Where it is staged.
    #[prost(string, tag = "4")]
    pub staging_target_path: String,
    /// How it is used.
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    /// Credentials.
    #[prost(map = "string, string", tag = "6")]
    pub secrets: HashMap<String, String>,
}

/// It is that large.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeExpandVolumeResponse {
    /// Its size in bytes.
    #[prost(int64, tag = "1")]
    pub capacity_bytes: i64,
}

crate::calls! {
    NodeStageVolumeRequest => "/csi.v1.Node/NodeStageVolume" => NodeStageVolumeResponse;
    NodeUnstageVolumeRequest => "/csi.v1.Node/NodeUnstageVolume" => NodeUnstageVolumeResponse;
    NodePublishVolumeRequest => "/csi.v1.Node/NodePublishVolume" => NodePublishVolumeResponse;
    NodeUnpublishVolumeRequest => "/csi.v1.Node/NodeUnpublishVolume" => NodeUnpublishVolumeResponse;
    NodeGetVolumeStatsRequest => "/csi.v1.Node/NodeGetVolumeStats" => NodeGetVolumeStatsResponse;
    NodeGetCapabilitiesRequest => "/csi.v1.Node/NodeGetCapabilities" => NodeGetCapabilitiesResponse;
    NodeGetInfoRequest => "/csi.v1.Node/NodeGetInfo" => NodeGetInfoResponse;
    NodeExpandVolumeRequest => "/csi.v1.Node/NodeExpandVolume" => NodeExpandVolumeResponse;
}
