//! Secret: settings that are.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    storage_version_hash: "S6u1pOWzb84=",
    field_names: &["type"],
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::text("Data"),
        Column::AGE,
    ],
    ..Kind::NAMESPACED
};
