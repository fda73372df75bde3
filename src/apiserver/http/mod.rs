//! From a connection to a request and back.

mod aggregated;
mod audited;
pub mod convert;
mod counted;
mod departure;
mod door;
#[cfg(test)]
mod fuzz;
mod given_up;
mod guests;
mod handler;
mod idle;
pub mod impersonate;
mod incoming;
mod intake;
mod large;
mod lent;
mod listen;
pub mod local;
pub mod negotiate;
pub mod path;
mod plain;
pub mod query;
pub mod reply;
mod resource;
mod shares;
mod together;
mod turns;
mod until;
mod verbs;
pub mod watch;
mod watches;

pub(crate) use departure::Departure;
pub use door::{Caller, Door};
pub(crate) use given_up::GivenUp;
pub(crate) use guests::Guests;
pub use incoming::Incoming;
pub(crate) use intake::Intake;
pub(crate) use large::Waiting;
pub(crate) use listen::{Answers, Listening, bind};
pub(crate) use plain::metrics;
pub use until::{End, Until};
pub(crate) use watches::Watches;
