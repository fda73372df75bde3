//! Pod: containers that share an address.

use crate::kind::{Column, Kind, PART_VERBS, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Subresource::new("attach", "PodAttachOptions", &["create", "get"]),
        Subresource::new("binding", "Binding", &["create"]),
        Subresource::new("ephemeralcontainers", "Pod", PART_VERBS),
        Subresource::foreign("eviction", "Eviction", "policy", "v1", &["create"]),
        Subresource::new("exec", "PodExecOptions", &["create", "get"]),
        Subresource::new("log", "Pod", &["get"]),
        Subresource::new("portforward", "PodPortForwardOptions", &["create", "get"]),
        Subresource::new(
            "proxy",
            "PodProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::new("resize", "Pod", PART_VERBS),
        Subresource::status("Pod"),
    ],
    storage_version_hash: "xPOwRZ+Yhw8=",
    reset_fields: &["status"],
    reset_fields_status: &["metadata.deletionTimestamp", "metadata.ownerReferences", "spec"],
    field_names: &[
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    ],
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        Column::AGE,
        Column::text("IP").wide(),
        Column::text("Node").wide(),
        Column::text("Nominated Node").wide(),
        Column::text("Readiness Gates").wide(),
    ],
    ..Kind::NAMESPACED
};
