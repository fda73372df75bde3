//! Binding: puts a pod on a node.

use crate::kind::Kind;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    namespaced: true,
    ..Kind::ASKED
};
