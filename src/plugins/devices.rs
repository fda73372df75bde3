//! What device plugins and the node say to each other (`v1beta1`): the plugin registers on the node's socket, the
//! node calls it on the plugin's.

use std::collections::HashMap;

/// The version of this.
pub const VERSION: &str = "v1beta1";
/// The health of a device that is well.
pub const HEALTHY: &str = "Healthy";

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// I provide a resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterRequest {
    /// The version that the plugin speaks.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its socket's name, in the folder of the node's.
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// The resource, such as `example.com/gadget`.
    #[prost(string, tag = "3")]
    pub resource_name: String,
    /// What it wants to be asked.
    #[prost(message, optional, tag = "4")]
    pub options: Option<DevicePluginOptions>,
}

/// What a plugin wants to be asked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DevicePluginOptions {
    /// To make devices ready before each start of a container.
    #[prost(bool, tag = "1")]
    pub pre_start_required: bool,
    /// Which devices it would rather give.
    #[prost(bool, tag = "2")]
    pub get_preferred_allocation_available: bool,
}

/// Which devices are there? The answer goes on for as long as the plugin is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAndWatchRequest {}

/// All devices as they are now.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAndWatchResponse {
    /// The devices.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
}

/// A device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Device {
    /// Its name among those of the resource.
    #[prost(string, tag = "1")]
    pub id: String,
    /// How it is: [`HEALTHY`], or not.
    #[prost(string, tag = "2")]
    pub health: String,
}

/// Which ones should be given?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationRequest {
    /// For each container.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerPreferredAllocationRequest>,
}

/// What may be given to one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationRequest {
    /// Those that can be given.
    #[prost(string, repeated, tag = "1")]
    pub available_device_ids: Vec<String>,
    /// Those of them that have to be.
    #[prost(string, repeated, tag = "2")]
    pub must_include_device_ids: Vec<String>,
    /// How many.
    #[prost(int32, tag = "3")]
    pub allocation_size: i32,
}

/// What a plugin would rather give.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationResponse {
    /// For each container.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerPreferredAllocationResponse>,
}

/// What it would rather give to one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationResponse {
    /// The devices.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// These are given: what comes with them?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateRequest {
    /// For each container.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerAllocateRequest>,
}

/// What is given to one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateRequest {
    /// The devices.
    #[prost(string, repeated, tag = "1")]
    pub devices_ids: Vec<String>,
}

/// What comes with devices.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AllocateResponse {
    /// For each container.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerAllocateResponse>,
}

/// What comes with the devices of one container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerAllocateResponse {
    /// Variables.
    #[prost(map = "string, string", tag = "1")]
    pub envs: HashMap<String, String>,
    /// Files of the machine.
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
    /// Devices of the machine.
    #[prost(message, repeated, tag = "3")]
    pub devices: Vec<DeviceSpec>,
    /// For the container runtime.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: HashMap<String, String>,
    /// Devices that the Container Device Interface describes.
    #[prost(message, repeated, tag = "5")]
    pub cdi_devices: Vec<CdiDevice>,
}

/// A file or folder for a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mount {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path on the machine.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Refuse writes.
    #[prost(bool, tag = "3")]
    pub read_only: bool,
}

/// A device file for a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceSpec {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path on the machine.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// `r`, `w`, `m` (make).
    #[prost(string, tag = "3")]
    pub permissions: String,
}

/// A device that the Container Device Interface describes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CdiDevice {
    /// `VENDOR/CLASS=NAME`.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A container that has these is about to start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerRequest {
    /// The devices.
    #[prost(string, repeated, tag = "1")]
    pub devices_ids: Vec<String>,
}

/// They are ready.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerResponse {}

crate::calls! {
    RegisterRequest => "/v1beta1.Registration/Register" => Empty;
    ListAndWatchRequest => "/v1beta1.DevicePlugin/ListAndWatch" => ListAndWatchResponse;
    PreferredAllocationRequest => "/v1beta1.DevicePlugin/GetPreferredAllocation" => PreferredAllocationResponse;
    AllocateRequest => "/v1beta1.DevicePlugin/Allocate" => AllocateResponse;
    PreStartContainerRequest => "/v1beta1.DevicePlugin/PreStartContainer" => PreStartContainerResponse;
}
