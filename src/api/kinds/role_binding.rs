//! RoleBinding: who has a role in a namespace.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    create_on_update: true,
    storage_version_hash: "eGsCzGH6b1g=",
    columns: &[
        Column::NAME,
        Column::text("Role"),
        Column::AGE,
        Column::text("Users").wide(),
        Column::text("Groups").wide(),
        Column::text("ServiceAccounts").wide(),
    ],
    ..Kind::NAMESPACED
};
