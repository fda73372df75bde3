//! Why a pod cannot run on a node.

/// Why a node will not do; a user reads it as `2 node(s) had ...`.
pub type Refusal = String;
