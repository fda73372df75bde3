//! Filters of system calls: programs that the kernel runs before each call of a process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub use libc::sock_filter as Instruction;

const SET_MODE_FILTER: libc::c_uint = 1;

/// All threads of the process are filtered, not only the calling one.
pub const ALL_THREADS: libc::c_ulong = 1;
/// What is refused is logged.
pub const LOG: libc::c_ulong = 1 << 1;
/// Speculation goes on as before.
pub const SPECULATE: libc::c_ulong = 1 << 2;
/// Somebody else decides some calls, over a descriptor.
pub const LISTEN: libc::c_ulong = 1 << 3;
/// A thread that cannot be filtered is an error like others, which is what lets the two above go together.
pub const THREADS_FAIL: libc::c_ulong = 1 << 4;
/// While somebody else decides, only what kills interrupts.
pub const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// Filters what this thread and its children call, for good. With [`LISTEN`] the descriptor to decide over.
///
/// # Errors
/// Without privilege or no-new-privileges; when the program is not one, or too long.
pub fn load(program: &[Instruction], flags: libc::c_ulong) -> io::Result<Option<OwnedFd>> {
    let len = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let described = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies as many instructions as are said to be there, and writes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const described) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & LISTEN == 0 {
        return match answer {
            0 => Ok(None),
            thread => Err(io::Error::other(format!("thread {thread} cannot be filtered"))),
        };
    }
    let file = RawFd::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(file) }))
}
