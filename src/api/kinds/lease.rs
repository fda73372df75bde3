//! Lease: who holds something, and when it was last renewed.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    create_on_update: true,
    unconditional_update: false,
    storage_version_hash: "gqkMMb/YqFM=",
    columns: &[Column::NAME, Column::text("Holder"), Column::AGE],
    ..Kind::NAMESPACED
};
