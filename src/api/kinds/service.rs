//! Service: one address for many pods.

use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[
        Subresource::new(
            "proxy",
            "ServiceProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::status("Service"),
    ],
    create_on_update: true,
    storage_version_hash: "0/CO1lhkEBI=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["spec.clusterIP", "spec.type"],
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        Column::AGE,
        Column::text("Selector").wide(),
    ],
    ..Kind::NAMESPACED
};
