//! Chooses a node for every pod.
//!
//! [`Snapshot`] is the cluster as the scheduler counts it, kept up to date
//! change by change. [`plan::choose`] is the decision, a function of the
//! snapshot and one pod: plugins refuse nodes, each with a reason that a user
//! can read, and score those that are left. `run` feeds the one and carries
//! out the other.

pub mod drivers;
pub mod plan;
pub mod plugin;
mod plugins;
mod queue;
mod refusal;
mod run;
pub mod snapshot;
pub mod storage;
mod volumes;

pub use drivers::Drivers;
pub use plan::{Choice, choose};
pub use run::start;
pub use snapshot::Snapshot;
pub use storage::Storage;
