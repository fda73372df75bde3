//! What extends admission: webhooks, and policies in CEL.

pub mod bindings;
pub mod policies;
pub mod rules;
pub mod webhooks;
