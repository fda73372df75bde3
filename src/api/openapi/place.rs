//! What a v3 document is about, named by its place below `/openapi/v3/`.

use std::collections::BTreeSet;
use std::fmt;

use crate::kind::KindRef;

fn group_versions(kinds: &[KindRef]) -> BTreeSet<(&'static str, &'static str)> {
    kinds.iter().map(|kind| (kind.group, kind.version)).collect()
}

/// The place of a v3 document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place<'p> {
    /// `api`: which versions the core group has.
    Core,
    /// `apis`: which groups there are.
    Groups,
    /// `apis/GROUP`: which versions a group has.
    Group(&'p str),
    /// `apis/GROUP/VERSION`, or `api/VERSION` for the core group: the kinds.
    Version(&'p str, &'p str),
    /// `version`: what the server is.
    Code,
}

impl<'p> Place<'p> {
    /// Reads what follows `/openapi/v3/`.
    pub fn parse(text: &'p str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        Some(match parts.as_slice() {
            ["api"] => Place::Core,
            ["apis"] => Place::Groups,
            ["version"] => Place::Code,
            ["api", version] => Place::Version("", version),
            ["apis", group] => Place::Group(group),
            ["apis", group, version] => Place::Version(group, version),
            _ => return None,
        })
    }

    /// All places where something is.
    pub fn all(kinds: &[KindRef]) -> Vec<Place<'static>> {
        let versions = group_versions(kinds);
        let groups: BTreeSet<&'static str> = versions.iter().map(|(group, _)| *group).collect();
        let named = groups.into_iter().filter(|group| !group.is_empty());
        let fixed = [Place::Core, Place::Groups, Place::Code];
        let versions = versions
            .into_iter()
            .map(|(group, version)| Place::Version(group, version));
        fixed
            .into_iter()
            .chain(named.map(Place::Group))
            .chain(versions)
            .collect()
    }

    /// The kinds that the document depends on.
    pub(super) fn kinds(self, all: &[KindRef]) -> Vec<KindRef> {
        let among = |kind: &&KindRef| match self {
            Place::Group(group) => kind.group == group,
            Place::Version(group, version) => kind.group == group && kind.version == version,
            _ => false,
        };
        all.iter().filter(among).cloned().collect()
    }

    /// Whether it is there whatever kinds there are.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self, Place::Core | Place::Groups | Place::Code)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Core => f.write_str("api"),
            Place::Groups => f.write_str("apis"),
            Place::Code => f.write_str("version"),
            Place::Group(group) => write!(f, "apis/{group}"),
            Place::Version("", version) => write!(f, "api/{version}"),
            Place::Version(group, version) => write!(f, "apis/{group}/{version}"),
        }
    }
}
