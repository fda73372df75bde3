//! How two states of an object differ, for everybody who owns some of it as it is called there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::{Difference, compare};
use super::versions::Form;
use super::write::{NOBODYS, Write};
use crate::fields::FieldSet;

/// How two states of an object differ, in each version in which somebody owns fields.
pub(super) struct Differences {
    /// In the version of the write, and in those whose fields have the same names.
    pub own: Difference,
    others: BTreeMap<String, Difference>,
}

impl Differences {
    /// What became of `before`; what the write cannot change (`reset`) is left out.
    pub fn of<'v>(
        before: &Value,
        after: &Value,
        versions: impl Iterator<Item = &'v str>,
        write: &Write<'_>,
        reset: &FieldSet,
    ) -> Self {
        let mut own = compare(before, after, write.schema).without(reset);
        own.changed.subtract(&NOBODYS);
        own.removed.subtract(&NOBODYS);
        let mut others = BTreeMap::new();
        for version in versions {
            if version == write.api_version || others.contains_key(version) {
                continue;
            }
            let shown = |object| write.versions.form(object, write.api_version, version);
            if let (Form::Other(before, schema), Form::Other(after, _)) = (shown(before), shown(after)) {
                let found = compare(&before, &after, &schema).without(reset);
                others.insert(version.to_owned(), found);
            }
        }
        Self { own, others }
    }

    /// How the object differs for those who wrote it in that version.
    pub fn seen_in(&self, api_version: &str) -> &Difference {
        self.others.get(api_version).unwrap_or(&self.own)
    }
}
