//! ControllerRevision: one past state of a controller.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage_version_hash: "85nkx63pcBU=",
    columns: &[
        Column::NAME,
        Column::text("Controller"),
        Column::text("Revision"),
        Column::AGE,
    ],
    ..Kind::NAMESPACED
};
