//! ReplicaSet: keeps a number of like pods.

use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("ReplicaSet")],
    storage_version_hash: "P1RzHs8/mWQ=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    columns: &[
        Column::NAME,
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    ..Kind::NAMESPACED
};
