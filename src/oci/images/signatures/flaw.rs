//! What may be the matter with a signature.

use crate::images::document::unresolved;
use crate::images::error::ImageError;
use crate::images::registry::Failure;
use crate::images::trust::Asked;

/// Signatures of one image that are looked at.
pub(super) const SIGNATURES_MAX: usize = 32;

/// Why there is nothing to be had from a signature.
pub(super) enum Flaw {
    /// It does not count, ever.
    Void(String),
    /// It cannot be had now.
    Away(ImageError),
}

impl Flaw {
    /// What it means that some of it was not fetched; `missing` is said when there is no such thing.
    pub(super) fn of(failure: Failure, asked: &Asked<'_>, missing: &str) -> Flaw {
        match failure {
            Failure::NotFound => Flaw::Void(missing.to_owned()),
            Failure::Final(why) => Flaw::Void(why),
            failure => Flaw::Away(unresolved(asked.name, failure)),
        }
    }
}
