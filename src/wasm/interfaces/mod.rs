//! Programs of one pod that call each other's exports, in memory.
//!
//! A component may import interfaces that are not the host's. They are looked for among what the other programs of its
//! pod export, checked type by type, and linked so that values go over and nothing else: caller and callee have stores,
//! limits, files and addresses of their own, and what traps is told the other as an error. A resource stays in the store
//! of the program that made it, in the one instance that the caller has there: what goes over are handles, which the
//! caller's store keeps in its table.
//!
//! `types` says what fits what by the `shapes` of types, `registry` who is there and `member` who takes a place there,
//! `binding` is the caller's side of a call, `calls` what its store keeps of it and `handles` what it has of resources,
//! `exporter` what it sees of the callee, `provider` the callee's side.

mod binding;
mod calls;
mod exporter;
mod handles;
mod member;
mod membership;
mod provider;
mod registry;
mod shapes;
mod types;
mod values;

pub(crate) use binding::bound;
pub(crate) use calls::Calls;
pub(crate) use member::Member;
pub use membership::{Absent, Membership};
pub(crate) use provider::Offer;
pub use registry::Interfaces;
pub(crate) use types::{Wanted, exports, imports};
