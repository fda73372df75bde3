//! nftables by our own encoder.

/// A batch that the kernel refused; nothing of it took effect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NftError(String);
