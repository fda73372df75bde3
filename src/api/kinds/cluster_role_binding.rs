//! ClusterRoleBinding: who has a role in the cluster.

use crate::kind::{Column, Kind};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    create_on_update: true,
    storage_version_hash: "48tpQ8gZHFc=",
    columns: &[
        Column::NAME,
        Column::text("Role"),
        Column::AGE,
        Column::text("Users").wide(),
        Column::text("Groups").wide(),
        Column::text("ServiceAccounts").wide(),
    ],
    ..Kind::CLUSTER
};
