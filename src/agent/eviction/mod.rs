//! What happens when memory, disk or process ids run short: the node says so,
//! takes in no more, and gives up the pods that cause it, one at a time.
//!
//! ```text
//! observe ─▶ thresholds ─▶ pressure ─▶ node conditions ─▶ (controller) taints
//!                │ met
//!                ▼
//!            reclaim images ─▶ observe again ─▶ rank pods ─▶ evict the first
//! usage ─▶ limits of ephemeral storage, pod by pod ─▶ evict
//! ```
//!
//! The kubelet's signals, order and messages; the decisions are pure functions.

pub mod admit;
pub mod evictor;
pub mod local;
pub mod observe;
pub mod rank;
pub mod signals;
pub mod usage;

pub use signals::{Pressure, Thresholds};
