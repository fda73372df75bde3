//! Kinds that the program itself describes as definitions describe custom ones: those that no Rust type stands for.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{CustomKind, Row};
use crate::kind::Column;

/// What such a kind is made of.
pub struct Fixed<'a> {
    /// Group.
    pub group: &'a str,
    /// Its only version.
    pub version: &'a str,
    /// Plural name, under which it is served.
    pub plural: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
    /// Its schema, as `openAPIV3Schema` has it.
    pub schema: Value,
    /// The columns of its table.
    pub columns: &'static [Column],
    /// One cell for each column.
    pub row: Row,
}

impl CustomKind {
    /// A kind that no definition describes.
    pub fn fixed(of: Fixed<'_>) -> Self {
        let (columns, row, verbs) = (of.columns.to_vec(), of.row, of.verbs);
        let version = json!({"name": of.version, "served": true, "storage": true,
            "schema": {"openAPIV3Schema": of.schema}});
        let definition = json!({
            "metadata": {"name": format!("{}.{}", of.plural, of.group)},
            "spec": {"group": of.group, "scope": if of.namespaced { "Namespaced" } else { "Cluster" },
                "versions": [version.clone()]},
            "status": {"acceptedNames": {"plural": of.plural, "singular": "", "kind": of.kind,
                "listKind": format!("{}List", of.kind)}},
        });
        let source = Bytes::from(definition.to_string());
        let mut made = Self::new(&definition, &version, &source);
        made.kind.verbs = verbs;
        made.kind.storage_version_hash = "";
        (made.columns, made.row) = (columns, Some(row));
        made
    }
}
