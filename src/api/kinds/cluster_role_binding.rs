//! ClusterRoleBinding: who has a role in the cluster.

use super::rbac;
use crate::kind::Kind;
use crate::names;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    create_on_update: true,
    storage_version_hash: "48tpQ8gZHFc=",
    name_rule: names::path_segment,
    default: rbac::default_binding,
    validate: |binding| rbac::binding(binding, false),
    validate_update: |new, old| rbac::binding_update(new, old, false),
    columns: rbac::BINDING_COLUMNS,
    row: rbac::binding_row,
    ..Kind::CLUSTER
};
