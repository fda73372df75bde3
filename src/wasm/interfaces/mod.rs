//! Programs of one pod that call each other's exports, in memory.
//!
//! A component may import interfaces that are not the host's. They are looked for among what the other programs of its
//! pod export, checked type by type, and linked so that values go over and nothing else: caller and callee have stores,
//! limits, files and addresses of their own, and what traps is told the other as an error. Handles of resources mean
//! something in one store only, so an interface with resources is refused by name.
//!
//! `types` says what fits what, `registry` who is there, `binding` is the caller's side of a call, `provider` the
//! callee's.

mod binding;
mod provider;
mod registry;
mod types;
mod values;

pub(crate) use binding::bindings;
pub(crate) use provider::{Callee, Offer};
pub(crate) use registry::Member;
pub use registry::{Interfaces, Membership};
pub(crate) use types::{Wanted, exports, imports};

use std::collections::HashMap;

/// What a store knows of the calls that it is part of.
#[derive(Default)]
pub(crate) struct Calls {
    /// Calls between programs that have led here.
    pub(crate) depth: u32,
    /// Instances of other programs that this one has called, which go with it.
    pub(crate) partners: HashMap<String, Callee>,
}
