//! The Container Storage Interface, version 1: its messages as far as they are used, and which call each is.

mod controller;
mod node;
mod snapshots;

use std::collections::HashMap;

pub use controller::*;
pub use node::*;
pub use snapshots::*;

/// Nothing is asked but this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginInfoRequest {}

/// Who a driver is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginInfoResponse {
    /// Its name, a domain.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub vendor_version: String,
    /// Whatever its maker says.
    #[prost(map = "string, string", tag = "3")]
    pub manifest: HashMap<String, String>,
}

/// Are you there?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProbeRequest {}

/// A driver is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProbeResponse {
    /// Whether it is ready; it is when nothing is said.
    #[prost(message, optional, tag = "1")]
    pub ready: Option<BoolValue>,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BoolValue {
    /// The value.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// How a volume is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeCapability {
    /// As a device or as a file system.
    #[prost(oneof = "AccessType", tags = "1, 2")]
    pub access_type: Option<AccessType>,
    /// By how many, and how.
    #[prost(message, optional, tag = "3")]
    pub access_mode: Option<AccessMode>,
}

/// As a device or as a file system.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AccessType {
    /// As a block device.
    #[prost(message, tag = "1")]
    Block(BlockVolume),
    /// As a file system.
    #[prost(message, tag = "2")]
    Mount(MountVolume),
}

/// By how many nodes and pods a volume is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Mode {
    /// Not said.
    Unknown = 0,
    /// Written on one node.
    SingleNodeWriter = 1,
    /// Read on one node.
    SingleNodeReaderOnly = 2,
    /// Read on many.
    MultiNodeReaderOnly = 3,
    /// Written on one, read on many.
    MultiNodeSingleWriter = 4,
    /// Written on many.
    MultiNodeMultiWriter = 5,
    /// Written by one pod.
    SingleNodeSingleWriter = 6,
    /// Written by many pods of one node.
    SingleNodeMultiWriter = 7,
}

/// As a block device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BlockVolume {}

/// As a file system.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MountVolume {
    /// Its type; empty for any.
    #[prost(string, tag = "1")]
    pub fs_type: String,
    /// Options of the mount.
    #[prost(string, repeated, tag = "2")]
    pub mount_flags: Vec<String>,
    /// The group that its files are given to by the driver.
    #[prost(string, tag = "3")]
    pub volume_mount_group: String,
}

/// By how many a volume is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AccessMode {
    /// See [`Mode`].
    #[prost(enumeration = "Mode", tag = "1")]
    pub mode: i32,
}

/// How large something may be, in bytes; 0 for no bound.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CapacityRange {
    /// At least.
    #[prost(int64, tag = "1")]
    pub required_bytes: i64,
    /// At most.
    #[prost(int64, tag = "2")]
    pub limit_bytes: i64,
}

/// Where something can be reached from.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Topology {
    /// Labels of nodes.
    #[prost(map = "string, string", tag = "1")]
    pub segments: HashMap<String, String>,
}

crate::calls! {
    GetPluginInfoRequest => "/csi.v1.Identity/GetPluginInfo" => GetPluginInfoResponse;
    ProbeRequest => "/csi.v1.Identity/Probe" => ProbeResponse;
}
