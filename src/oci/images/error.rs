//! Why an image cannot be had.

/// Why an image cannot be had. The texts end up in pod events and container
/// statuses behind `Failed to pull image "…": `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference is not one (`InvalidImageName` in a pod's status).
    #[error("couldn't parse image name {reference:?}: {reason}")]
    InvalidName {
        /// The reference as written.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry has no such image.
    #[error("failed to resolve reference {reference:?}: {reference}: not found")]
    NotFound {
        /// The normalised reference.
        reference: String,
    },
    /// The registry refuses these credentials, or wants some.
    #[error("{0}")]
    Denied(String),
    /// The registry cannot be reached or answers nonsense; trying again may help.
    #[error("{0}")]
    Registry(String),
    /// The image is damaged, or of a kind or platform that cannot run here.
    #[error("{0}")]
    Unusable(String),
    /// Nobody answers for it whom the policy trusts (`SignatureValidationFailed` in a pod's status).
    #[error("{0}")]
    Untrusted(String),
    /// This machine's disk.
    #[error("{context}: {reason}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's reason.
        reason: String,
    },
}

/// Wraps a failure of the disk.
pub(super) fn disk(context: &str) -> impl FnOnce(std::io::Error) -> ImageError + '_ {
    move |error| ImageError::Io {
        context: context.to_owned(),
        reason: error.to_string(),
    }
}
