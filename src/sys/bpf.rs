//! Programs for the kernel's own small machine (eBPF), as far as control groups of version 2 ask them about devices.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One instruction, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// What is done.
    pub(crate) code: u8,
    /// Where the result goes (lower half), and where the other value comes from (upper half).
    pub(crate) registers: u8,
    /// How far a load or a jump reaches.
    pub(crate) offset: i16,
    /// A value that stands in the program.
    pub(crate) value: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// A program that is asked about devices.
const CGROUP_DEVICE: u32 = 15;
/// The moment at which it is asked.
const ON_DEVICE: u32 = 6;
/// Programs of the groups above, and others of this one, are asked as well: what one refuses is refused.
const ALLOW_MULTI: u32 = 2;

/// The beginning of what the kernel is told of a program; the rest may be left out.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    group: u32,
    program: u32,
    moment: u32,
    flags: u32,
}

/// Loads a program that decides on devices.
///
/// # Errors
/// Without the privilege; when the kernel has no such programs, or takes this one for unsafe.
pub(crate) fn load_for_devices(program: &[Instruction]) -> io::Result<OwnedFd> {
    let told = Load {
        kind: CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let file = call(PROG_LOAD, &told)?;
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// Has the kernel ask the program about what processes of the group, an open folder, do. It stays as long as the group.
///
/// # Errors
/// The kernel's.
pub(crate) fn attach_to_group(program: &OwnedFd, group: impl AsFd) -> io::Result<()> {
    let number = |file: RawFd| u32::try_from(file).map_err(io::Error::other);
    let told = Attach {
        group: number(group.as_fd().as_raw_fd())?,
        program: number(program.as_raw_fd())?,
        moment: ON_DEVICE,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &told).map(drop)
}

fn call<T>(what: libc::c_int, told: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads as many bytes as are said to be there, and what they point to, which outlives the call;
    // it writes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, what, std::ptr::from_ref(told), size_of::<T>()) };
    match RawFd::try_from(answer) {
        Ok(file) if file >= 0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}
