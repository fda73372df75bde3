//! The errors of WASI preview 1 that sockets know.

use std::io;

/// An error as a module sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub(super) i32);

impl Errno {
    pub(super) const AGAIN: Errno = Errno(6);
    pub(super) const BADF: Errno = Errno(8);
    pub(super) const CONNABORTED: Errno = Errno(13);
    pub(super) const CONNRESET: Errno = Errno(15);
    pub(super) const INVAL: Errno = Errno(28);
    pub(super) const IO: Errno = Errno(29);
    pub(super) const MFILE: Errno = Errno(33);
    pub(super) const NOTCONN: Errno = Errno(53);
    pub(super) const PIPE: Errno = Errno(64);
    pub(super) const TIMEDOUT: Errno = Errno(73);
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        match error.kind() {
            io::ErrorKind::WouldBlock => Errno::AGAIN,
            io::ErrorKind::ConnectionAborted => Errno::CONNABORTED,
            io::ErrorKind::ConnectionReset => Errno::CONNRESET,
            io::ErrorKind::NotConnected => Errno::NOTCONN,
            io::ErrorKind::BrokenPipe => Errno::PIPE,
            io::ErrorKind::TimedOut => Errno::TIMEDOUT,
            io::ErrorKind::InvalidInput => Errno::INVAL,
            _ if error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) => Errno::MFILE,
            _ => Errno::IO,
        }
    }
}

/// What a function returns to the module.
pub(super) fn code(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, |error| error.0)
}
