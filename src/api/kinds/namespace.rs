//! Namespace: the scope of names.

use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        Subresource::new("finalize", "Namespace", &["update"]),
        Subresource::status("Namespace"),
    ],
    storage_version_hash: "Q3oi5N2YM8M=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["status.phase"],
    columns: &[Column::NAME, Column::text("Status"), Column::AGE],
    ..Kind::CLUSTER
};
