//! Descriptors whose readiness the async runtime waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Has tokio tell when `fd` can be read or written.
///
/// # Errors
/// Those of `epoll_ctl`: `EPERM` for what is always ready, such as a file.
///
/// # Panics
/// Outside of a tokio runtime with I/O.
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, which the `AsyncFd` that
    // owns it does last, and always gives the same number.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn what_is_written_wakes_the_reader() {
        let (near, mut far) = io::pipe().unwrap();
        let near = watched(near.into()).unwrap();
        let (woken, ()) = tokio::join!(near.readable(), async { far.write_all(b"x").unwrap() });
        assert!(woken.is_ok());
    }

    #[tokio::test]
    async fn files_are_always_ready() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(
            watched(file.into()).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }
}
