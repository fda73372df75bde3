//! How a plugin introduces itself (`pluginregistration.v1`): the node finds its socket in a folder and asks.

/// Who are you?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InfoRequest {}

/// What a plugin says of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginInfo {
    /// `CSIPlugin`, `DevicePlugin` or `DRAPlugin`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Its name, such as `disks.example.com`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The socket to call it on; empty for the one it registers by.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    /// Versions it speaks, such as `1.0.0`.
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

/// What became of the registration.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatus {
    /// Whether it is known by now.
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatusResponse {}

crate::calls! {
    InfoRequest => "/pluginregistration.Registration/GetInfo" => PluginInfo;
    RegistrationStatus => "/pluginregistration.Registration/NotifyRegistrationStatus"
        => RegistrationStatusResponse;
}
