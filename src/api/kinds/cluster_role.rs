//! ClusterRole: what may be done in the cluster.

use crate::kind::Kind;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    create_on_update: true,
    storage_version_hash: "bYE5ZWDrJ44=",
    ..Kind::CLUSTER
};
