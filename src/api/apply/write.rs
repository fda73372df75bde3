//! What is to be applied, by whom and how.

use std::sync::LazyLock;

use super::versions::Versions;
use crate::fields::FieldSet;
use crate::schema::Schema;
use jiff::Timestamp;

/// Paths that identify an object rather than describe it: nobody owns them.
pub static NOBODYS: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_dotted(&[
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
});

/// Who writes, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Field manager.
    pub manager: &'a str,
    /// `apiVersion` that the writer used.
    pub api_version: &'a str,
    /// Subresource written through; empty for the object itself.
    pub subresource: &'a str,
    /// Time of the write.
    pub now: Timestamp,
    /// Schema of the kind.
    pub schema: &'a Schema,
    /// Dotted paths that this write cannot change (`status`), so nobody owns them by it.
    pub reset: &'a [&'a str],
    /// The forms of the object in which others may have written.
    pub versions: &'a dyn Versions,
}

impl Write<'_> {
    pub(super) fn id(&self, applied: bool) -> Id {
        Id::new(self.manager, applied, self.api_version, self.subresource)
    }
}

/// What tells one entry from another. Appliers have one entry whatever version they use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub manager: String,
    pub applied: bool,
    /// Empty for appliers.
    pub api_version: String,
    pub subresource: String,
}

impl Id {
    pub fn new(manager: &str, applied: bool, api_version: &str, subresource: &str) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let api_version = if applied { "" } else { api_version };
        Self {
            manager: manager.to_owned(),
            applied,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflicts name it.
    pub fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applied {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}
