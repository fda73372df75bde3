//! A program of an application.

use crate::{InstanceSpec, Program};

/// One program of an application, see [`Host::start_app`].
pub struct AppPart {
    /// The program.
    pub program: Program,
    /// Routes that lead to it: a path (`/hello`), perhaps with named parts
    /// (`/users/:name`) or `/...` at its end for all below.
    pub routes: Vec<String>,
    /// What it is given.
    pub spec: InstanceSpec,
}
