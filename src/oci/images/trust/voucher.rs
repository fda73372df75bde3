//! Somebody who answers for an image.

use serde::{Deserialize, Serialize};

/// Somebody who answers for an image. Kept with it, so that a node without its
/// registry knows, and a policy that has changed is asked anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Voucher {
    /// Whoever imported it by hand.
    Import {
        /// The normalised reference that it was given.
        reference: String,
    },
    /// The owner of a key, who signed its digest.
    Signature {
        /// SHA-256 of the public key (DER), in hex.
        key: String,
        /// What the signature calls it: a repository, perhaps with a tag; nothing in a bundle.
        identity: String,
    },
}
