//! Names that several families have in common.

/// A phase of a request: in a queue.
pub const WAITING: &str = "waiting";
/// A phase of a request: in its seats.
pub const EXECUTING: &str = "executing";

pub fn name(of: &str) -> String {
    format!("apiserver_flowcontrol_{of}")
}
