//! Pseudo-terminals: receiving the near end of one, and its size.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Receives the one descriptor that the other end sends along with its next message.
///
/// # Errors
/// When the other end sends something else or hangs up.
pub fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let (_, received) = crate::descriptors::receive(stream, &mut [0; 4096])?;
    received
        .into_iter()
        .next()
        .ok_or_else(|| io::Error::other("no descriptor was sent"))
}

/// Gives a terminal a new size, in characters.
///
/// # Errors
/// When the descriptor is not a terminal's.
pub fn resize(terminal: impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize through the pointer, which lives until the call returns.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
