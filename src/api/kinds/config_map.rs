//! ConfigMap: settings that are no secret.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    storage_version_hash: "qFsyl6wFWjQ=",
    columns: &[Column::NAME, Column::text("Data"), Column::AGE],
    ..Kind::NAMESPACED
};
