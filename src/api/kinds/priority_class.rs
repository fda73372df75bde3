//! PriorityClass: names a pod priority.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    storage_version_hash: "1QwjyaZjj3Y=",
    columns: &[
        Column::NAME,
        Column::integer("Value"),
        Column::boolean("Global-Default"),
        Column::AGE,
        Column::text("PreemptionPolicy"),
    ],
    ..Kind::CLUSTER
};
