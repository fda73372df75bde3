//! Deployment: keeps a number of like pods, and replaces them gradually.

use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("Deployment")],
    storage_version_hash: "8aSe+NMegvE=",
    reset_fields: &["status"],
    reset_fields_status: &["metadata.labels", "spec"],
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Up-to-date"),
        Column::text("Available"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    ..Kind::NAMESPACED
};
