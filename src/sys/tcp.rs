//! What connections are told that the standard library has no word for.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// Lets the kernel break a connection off whose other side takes nothing of what is sent for so long (`TCP_USER_TIMEOUT`
/// of tcp(7), whole milliseconds).
///
/// # Errors
/// The kernel's.
pub fn give_up_after(connection: &impl AsFd, unread: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(connection, sockopt::TcpUserTimeout, &milliseconds)?)
}
