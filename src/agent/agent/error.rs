//! What can be wrong with an agent.

use network::NetworkError;
use oci::{ImageError, OciError};
use wasm::WasmError;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings contradict themselves.
    #[error("{0}")]
    Config(String),
    /// The image store.
    #[error("images: {0}")]
    Images(#[from] ImageError),
    /// The container store.
    #[error("containers: {0}")]
    Containers(#[from] OciError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The Wasm host.
    #[error("wasm: {0}")]
    Wasm(#[from] WasmError),
}
