//! A TCP socket that somebody else in this process holds and does not show, as a library may: it is told from all others
//! by options that only it bears for a moment.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How long, in seconds, a TCP connection is idle before its peer is asked whether it lives, and how long between
/// questions: two numbers by which a socket that is held by others can be told from all others of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The first.
    pub idle_s: u16,
    /// The second.
    pub interval_s: u16,
}

/// A TCP socket of this process, by its number alone: whoever holds it may close it.
#[derive(Debug)]
pub struct Marked(RawFd);

impl Marked {
    /// The first socket that bears a mark. New ones are found at once: theirs is the lowest number that was free.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn find(mark: Mark) -> io::Result<Option<Marked>> {
        let bears = |number: &RawFd| Marked(*number).bears(mark);
        let next = fs::File::open("/dev/null")?.as_raw_fd();
        if let Some(number) = (0..next).rev().find(bears) {
            return Ok(Some(Marked(number)));
        }
        let all = fs::read_dir("/proc/self/fd")?.flatten();
        let mut numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
        Ok(numbers.find(bears).map(Marked))
    }

    /// Whether it bears that mark now.
    pub fn bears(&self, mark: Mark) -> bool {
        let bears = |option, number: u16| self.option(option) == Some(libc::c_int::from(number));
        bears(libc::TCP_KEEPIDLE, mark.idle_s) && bears(libc::TCP_KEEPINTVL, mark.interval_s)
    }

    fn option(&self, option: libc::c_int) -> Option<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut length = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the kernel writes no more than `length` bytes, into `value`; of a number that is not open, or no TCP
        // socket's, it says so.
        let result = unsafe {
            libc::getsockopt(
                self.0,
                libc::IPPROTO_TCP,
                option,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        (result == 0).then_some(value)
    }

    /// A second handle on it.
    ///
    /// # Errors
    /// When it was closed, or there are no descriptors left.
    pub fn handle(&self) -> io::Result<OwnedFd> {
        // SAFETY: only a number is used; that of a descriptor which is not open is an error.
        let copy = unsafe { libc::fcntl(self.0, libc::F_DUPFD_CLOEXEC, 0) };
        match copy {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
            copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
        }
    }

    /// Puts another socket in its place: who holds it has that one from now on, under the same number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn replace(self, with: OwnedFd) -> io::Result<()> {
        // SAFETY: the number stays open and its holder's, which may do with any socket what it does with this one.
        match unsafe { libc::dup3(with.as_raw_fd(), self.0, libc::O_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_mark_and_replaced() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second, other) = (listener(), listener(), listener());
        let mark = Mark {
            idle_s: 12_345,
            interval_s: 54,
        };
        assert!(Marked::find(mark).unwrap().is_none());
        setsockopt(&second, sockopt::TcpKeepIdle, &12_345).unwrap();
        assert!(Marked::find(mark).unwrap().is_none());
        setsockopt(&second, sockopt::TcpKeepInterval, &54).unwrap();
        let found = Marked::find(mark).unwrap().unwrap();
        let handle = TcpListener::from(found.handle().unwrap());
        assert_eq!(handle.local_addr().unwrap(), second.local_addr().unwrap());
        let address = other.local_addr().unwrap();
        found.replace(other.into()).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        assert_ne!(first.local_addr().unwrap(), address);
        assert!(!Marked(second.as_raw_fd()).bears(mark));
    }
}
