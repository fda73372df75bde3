//! What is asked of a driver for the cluster: making, attaching and growing volumes.

use std::collections::HashMap;

use super::{CapacityRange, Topology, VolumeCapability, VolumeContentSource};

/// Make a volume.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateVolumeRequest {
    /// Its name; the same name is the same volume.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its size.
    #[prost(message, optional, tag = "2")]
    pub capacity_range: Option<CapacityRange>,
    /// How it is to be used.
    #[prost(message, repeated, tag = "3")]
    pub volume_capabilities: Vec<VolumeCapability>,
    /// Of the StorageClass.
    #[prost(map = "string, string", tag = "4")]
    pub parameters: HashMap<String, String>,
    /// Credentials.
    #[prost(map = "string, string", tag = "5")]
    pub secrets: HashMap<String, String>,
    /// What it is to be filled with; empty otherwise.
    #[prost(message, optional, tag = "6")]
    pub volume_content_source: Option<VolumeContentSource>,
}

/// A volume was made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateVolumeResponse {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub volume: Option<Volume>,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Volume {
    /// Its size in bytes.
    #[prost(int64, tag = "1")]
    pub capacity_bytes: i64,
    /// What the driver knows it by.
    #[prost(string, tag = "2")]
    pub volume_id: String,
    /// What the driver wants to be told with each call.
    #[prost(map = "string, string", tag = "3")]
    pub volume_context: HashMap<String, String>,
    /// What it was filled with.
    #[prost(message, optional, tag = "4")]
    pub content_source: Option<VolumeContentSource>,
    /// Where it can be reached from.
    #[prost(message, repeated, tag = "5")]
    pub accessible_topology: Vec<Topology>,
}

/// Remove a volume.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Credentials.
    #[prost(map = "string, string", tag = "2")]
    pub secrets: HashMap<String, String>,
}

/// It is gone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteVolumeResponse {}

/// Attach a volume to a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerPublishVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// The node, as the driver knows it.
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// How it is to be used.
    #[prost(message, optional, tag = "3")]
    pub volume_capability: Option<VolumeCapability>,
    /// Only to be read.
    #[prost(bool, tag = "4")]
    pub readonly: bool,
    /// Credentials.
    #[prost(map = "string, string", tag = "5")]
    pub secrets: HashMap<String, String>,
    /// The volume's.
    #[prost(map = "string, string", tag = "6")]
    pub volume_context: HashMap<String, String>,
}

/// It is attached.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerPublishVolumeResponse {
    /// What the node's side of the driver is to be told.
    #[prost(map = "string, string", tag = "1")]
    pub publish_context: HashMap<String, String>,
}

/// Detach a volume from a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerUnpublishVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// The node, as the driver knows it.
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// Credentials.
    #[prost(map = "string, string", tag = "3")]
    pub secrets: HashMap<String, String>,
}

/// It is detached.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerUnpublishVolumeResponse {}

/// Make a volume larger.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerExpandVolumeRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// How large.
    #[prost(message, optional, tag = "2")]
    pub capacity_range: Option<CapacityRange>,
    /// Credentials.
    #[prost(map = "string, string", tag = "3")]
    pub secrets: HashMap<String, String>,
    /// How it is used.
    #[prost(message, optional, tag = "4")]
    pub volume_capability: Option<VolumeCapability>,
}

/// It is larger.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControllerExpandVolumeResponse {
    /// Its size in bytes.
    #[prost(int64, tag = "1")]
    pub capacity_bytes: i64,
    /// Whether its node has something to do.
    #[prost(bool, tag = "2")]
    pub node_expansion_required: bool,
}

crate::calls! {
    CreateVolumeRequest => "/csi.v1.Controller/CreateVolume" => CreateVolumeResponse;
    DeleteVolumeRequest => "/csi.v1.Controller/DeleteVolume" => DeleteVolumeResponse;
    ControllerPublishVolumeRequest => "/csi.v1.Controller/ControllerPublishVolume" => ControllerPublishVolumeResponse;
    ControllerUnpublishVolumeRequest => "/csi.v1.Controller/ControllerUnpublishVolume" => ControllerUnpublishVolumeResponse;
    ControllerExpandVolumeRequest => "/csi.v1.Controller/ControllerExpandVolume" => ControllerExpandVolumeResponse;
}
