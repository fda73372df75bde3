//! Role: what may be done in a namespace.

use crate::kind::Kind;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "Role",
    plural: "roles",
    singular: "role",
    create_on_update: true,
    storage_version_hash: "7FuwZcIIItM=",
    ..Kind::NAMESPACED
};
