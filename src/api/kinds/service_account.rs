//! ServiceAccount: who a pod is.

use super::{cells, warnings};
use crate::kind::{Column, Kind, Subresource};
use crate::object;

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const MOUNTABLE_INSTEAD: &str =
    "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";

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
    warnings: |new, old| {
        let mut said = Vec::new();
        // Whoever changes an account that has it is not told again.
        if old.is_none_or(|old| object::annotation(old, MOUNTABLE).is_none()) {
            warnings::annotation(new, MOUNTABLE, MOUNTABLE_INSTEAD, &mut said);
        }
        said
    },
    columns: &[Column::NAME, Column::AGE],
    row: |account, now| vec![cells::name(account), cells::age(account, now)],
    ..Kind::NAMESPACED
};
