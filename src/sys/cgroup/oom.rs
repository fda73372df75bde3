//! Being told when a group runs out of memory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::hierarchies;

/// A descriptor that becomes readable when the kernel is about to kill a
/// process of the group for lack of memory, and when the group is removed;
/// `None` where the kernel itself kills the whole group (version 2 can be told to).
///
/// # Errors
/// When the group is not there.
pub fn oom_notice(path: &str) -> io::Result<Option<OwnedFd>> {
    let memory = hierarchies()
        .into_iter()
        .find(|h| h.controllers.iter().any(|c| c == "memory"));
    let Some(memory) = memory else {
        return Ok(None);
    };
    let group = memory.group(path);
    let control = File::open(group.join("memory.oom_control"))?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let pair = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    fs::write(group.join("cgroup.event_control"), pair)?;
    Ok(Some(event.into()))
}
