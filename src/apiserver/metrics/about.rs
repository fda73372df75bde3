//! The labels of requests.

use prometheus_client::encoding::EncodeLabelSet;

/// What a request was about; none of it comes from the client's free choice, so that the
/// number of series stays bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct About {
    /// RBAC verb in capitals, `LIST`, `WATCH`, `APPLY`, or `CONNECT` for streams.
    pub verb: &'static str,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name; empty for other paths.
    pub resource: &'static str,
    /// Subresource, or the path for other paths.
    pub subresource: &'static str,
    /// `resource`, `namespace`, `cluster` or empty.
    pub scope: &'static str,
    /// Always `apiserver`.
    pub component: &'static str,
}

impl About {
    /// The kind, without what is done to it.
    pub fn kind(&self) -> KindLabels {
        KindLabels {
            group: self.group,
            version: self.version,
            resource: self.resource,
        }
    }
}

/// A kind in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    /// The HTTP status.
    pub code: u16,
}

/// Whether anything came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dryness {
    /// `All`, or empty.
    pub dry_run: &'static str,
}

impl Dryness {
    /// Of a request that asked for it, or did not.
    pub fn of(dry_run: bool) -> Self {
        let dry_run = if dry_run { "All" } else { "" };
        Self { dry_run }
    }
}

/// What was asked for though it is about to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Deprecated {
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Subresource.
    pub subresource: &'static str,
    /// The release that will not have it any more; empty where none is named, as for all that is served.
    pub removed_release: &'static str,
}

/// Of a request that was not let go to its end. (As [`About`], without the component.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Aborted {
    /// As in [`About`].
    pub verb: &'static str,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Subresource.
    pub subresource: &'static str,
    /// As in [`About`].
    pub scope: &'static str,
}

impl From<&About> for Aborted {
    fn from(about: &About) -> Self {
        Self {
            verb: about.verb,
            group: about.group,
            version: about.version,
            resource: about.resource,
            subresource: about.subresource,
            scope: about.scope,
        }
    }
}

/// Whether a request changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Sort {
    /// `mutating` or `readOnly`.
    pub request_kind: &'static str,
}
