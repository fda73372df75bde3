//! RoleBinding: who has a role in a namespace.

use super::rbac;
use crate::kind::Kind;
use crate::names;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    create_on_update: true,
    storage_version_hash: "eGsCzGH6b1g=",
    name_rule: names::path_segment,
    default: rbac::default_binding,
    validate: |binding| rbac::binding(binding, true),
    validate_update: |new, old| rbac::binding_update(new, old, true),
    columns: rbac::BINDING_COLUMNS,
    row: rbac::binding_row,
    ..Kind::NAMESPACED
};
