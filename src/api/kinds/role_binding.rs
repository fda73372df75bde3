//! RoleBinding: who has a role in a namespace.

use super::{cells, rbac};
use crate::kind::{Column, Kind};
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
    columns: &[
        Column::NAME,
        Column::text("Role"),
        Column::AGE,
        Column::text("Users").wide(),
        Column::text("Groups").wide(),
        Column::text("ServiceAccounts").wide(),
    ],
    row: |binding, now| {
        let [role, users, groups, accounts] = rbac::binding_cells(binding);
        vec![
            cells::name(binding),
            role,
            cells::age(binding, now),
            users,
            groups,
            accounts,
        ]
    },
    ..Kind::NAMESPACED
};
