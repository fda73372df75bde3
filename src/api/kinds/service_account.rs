//! ServiceAccount: who a pod is.

use super::cells;
use crate::kind::{Column, Kind, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    returns_deleted: true,
    short_names: &["sa"],
    subresources: &[Subresource::foreign(
        "token",
        "TokenRequest",
        "authentication.k8s.io",
        "v1",
        &["create"],
    )],
    storage_version_hash: "pbx9ZvyFpBE=",
    columns: &[Column::NAME, Column::AGE],
    row: |account, now| vec![cells::name(account), cells::age(account, now)],
    ..Kind::NAMESPACED
};
