//! Node: a machine that runs pods.

use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    subresources: &[
        Subresource::new(
            "proxy",
            "NodeProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::status("Node"),
    ],
    storage_version_hash: "XwShjMxG9Fs=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["spec.unschedulable"],
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Roles"),
        Column::AGE,
        Column::text("Version"),
        Column::text("Internal-IP").wide(),
        Column::text("External-IP").wide(),
        Column::text("OS-Image").wide(),
        Column::text("Kernel-Version").wide(),
        Column::text("Container-Runtime").wide(),
    ],
    ..Kind::CLUSTER
};
