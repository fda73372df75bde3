//! Policies in CEL (`admissionregistration.k8s.io`): some change objects, others refuse them.
//!
//! ```text
//! policy, binding, parameters ─ turn.rs ─▶ what is asked ─┬─ mutate.rs ─▶ the object, changed
//!                                                         └─ validate.rs ─▶ refusals, warnings, notes
//! ```

mod mutate;
mod parameters;
pub mod policy;
mod turn;
mod validate;

pub use mutate::mutate;
pub use turn::Bound;
pub use validate::validate;
