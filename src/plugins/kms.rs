//! Keys kept elsewhere (`v2.KeyManagementService`): a plugin encrypts the seeds that an API server seals objects with.

use std::collections::HashMap;

/// How are you?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusRequest {}

/// How a plugin is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusResponse {
    /// The version of its API: `v2`.
    #[prost(string, tag = "1")]
    pub version: String,
    /// `ok`, or what is wrong.
    #[prost(string, tag = "2")]
    pub healthz: String,
    /// The key that it encrypts with.
    #[prost(string, tag = "3")]
    pub key_id: String,
}

/// Decrypt this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DecryptRequest {
    /// What was encrypted.
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    /// Names the request in logs.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The key that it was encrypted with.
    #[prost(string, tag = "3")]
    pub key_id: String,
    /// What the plugin said when it encrypted it.
    #[prost(map = "string, bytes", tag = "4")]
    pub annotations: HashMap<String, Vec<u8>>,
}

/// What was decrypted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DecryptResponse {
    /// The plain text.
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
}

/// Encrypt this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EncryptRequest {
    /// The plain text.
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
    /// Names the request in logs.
    #[prost(string, tag = "2")]
    pub uid: String,
}

/// What was encrypted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EncryptResponse {
    /// The encrypted text.
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    /// The key it was encrypted with.
    #[prost(string, tag = "2")]
    pub key_id: String,
    /// What the plugin wants to be told again; it is kept in the open.
    #[prost(map = "string, bytes", tag = "3")]
    pub annotations: HashMap<String, Vec<u8>>,
}

crate::calls! {
    StatusRequest => "/v2.KeyManagementService/Status" => StatusResponse;
    DecryptRequest => "/v2.KeyManagementService/Decrypt" => DecryptResponse;
    EncryptRequest => "/v2.KeyManagementService/Encrypt" => EncryptResponse;
}
