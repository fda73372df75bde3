//! What every room of the house needs and what knows nothing of Kubernetes:
//! time, randomness, supervised background tasks, back-off, logs and metrics.
//!
//! Time and randomness are parameters everywhere (traits with a real and a
//! controllable implementation), so that tests and the simulator own them.

pub mod authorities;
pub mod backoff;
pub mod clock;
pub mod files;
pub mod random;
pub mod tasks;
pub mod telemetry;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SystemClock};
pub use random::{Random, SeededRandom, SystemRandom};
pub use tasks::{OnError, Tasks};
