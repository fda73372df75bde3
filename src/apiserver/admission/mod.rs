//! Admission: what is added to new objects, and what is refused, beyond a kind's own rules.

/// One admission plugin.
pub trait Plugin: Send + Sync {}
