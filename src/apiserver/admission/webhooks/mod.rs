//! Webhooks that are asked about requests (`admissionregistration.k8s.io`).
//!
//! ```text
//! configuration ─ hook.rs ─▶ Hook ─ matches? ─▶ question ─ outbound ─▶ answer ─▶ patch, warnings, denial
//! ```

mod call;
mod course;
pub mod hook;
mod mutate;
mod notes;
mod review;
mod validate;

pub use mutate::mutate;
pub use notes::PATCH;
pub use validate::validate;
