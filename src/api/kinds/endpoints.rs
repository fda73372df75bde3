//! Endpoints: the older list of the addresses behind a Service.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    create_on_update: true,
    storage_version_hash: "fWeeMqaN/OA=",
    columns: &[Column::NAME, Column::text("Endpoints"), Column::AGE],
    ..Kind::NAMESPACED
};
