//! Role: what may be done in a namespace.

use super::rbac;
use crate::kind::Kind;
use crate::names;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "Role",
    plural: "roles",
    singular: "role",
    create_on_update: true,
    storage_version_hash: "7FuwZcIIItM=",
    name_rule: names::path_segment,
    validate: |role| rbac::rules(role, true),
    validate_update: |new, _| rbac::rules(new, true),
    ..Kind::NAMESPACED
};
