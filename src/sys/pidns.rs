//! A PID namespace that several containers share, held by a process that does
//! nothing else.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// Makes a PID namespace with a first process that sleeps for ever: what is
/// left without a parent in it becomes that process' child and is collected by
/// the kernel. It hears no signal but SIGKILL, which ends all of the namespace,
/// and gets that when this process ends. Returns its id.
///
/// It belongs to the user namespace `owner`, or to this process' own.
///
/// Only for a process with a single thread: the child goes on in a copy of its memory.
///
/// # Errors
/// The kernel's, such as a limit on namespaces.
pub fn hold(owner: Option<&OwnedFd>) -> io::Result<i32> {
    let Some(owner) = owner else {
        return Ok(first_process(0)?);
    };
    // Somebody has to be in the user namespace to make it; the first process is a sibling of theirs.
    let prepare = || {
        setns(owner, CloneFlags::CLONE_NEWUSER)?;
        first_process(libc::CLONE_PARENT)
    };
    crate::userns::start(CloneFlags::empty(), prepare).map(|(_, pid)| pid)
}

fn first_process(flags: i32) -> nix::Result<i32> {
    let flags = u64::try_from(flags | libc::CLONE_NEWPID | libc::SIGCHLD).unwrap_or_default();
    // SAFETY: as fork does, without a new stack; the caller has one thread, so no lock is held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match Errno::result(pid)? {
        0 => crate::userns::sleep_for_ever(),
        pid => i32::try_from(pid).map_err(|_| Errno::EOVERFLOW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_first_in_a_namespace_of_its_own() {
        crate::testing::as_root(|| {
            let pid = hold(None).unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let ids = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap();
            assert_eq!(ids.split_whitespace().last(), Some("1"));
            let inside = std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
            assert_ne!(inside, std::fs::read_link("/proc/self/ns/pid").unwrap());
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(pid, None).unwrap();
        });
    }
}
