//! What can be wrong with a server at its start.

use api::status::Status;
use store::StoreError;

use crate::pki::PkiError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
    /// Keys or certificates are wrong or cannot be made.
    #[error("keys and certificates: {0}")]
    Pki(#[from] PkiError),
    /// The first objects cannot be written.
    #[error("preparing the cluster: {0}")]
    Prepare(#[from] Status),
    /// The store has ended, or this server has no place in the cluster any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting makes no sense; the text says which.
    #[error("{0}")]
    Setting(String),
}

impl From<rustls::Error> for StartError {
    fn from(error: rustls::Error) -> Self {
        StartError::Pki(PkiError::Tls(error))
    }
}
