//! What this process asks of the kernel for itself: its place among the
//! machine's other processes, and how much it may open.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Sets how readily the kernel ends this process, and those it will start,
/// when memory runs out: from -1000 (never) to 1000 (first).
///
/// # Errors
/// Lowering it takes a privilege.
pub fn set_oom_score(score: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
}

/// How readily the kernel ends this process; see [`set_oom_score`].
pub fn oom_score() -> i32 {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Does `work` with another score, which processes that it starts keep; see [`set_oom_score`].
///
/// # Errors
/// As there. The work may have been done.
pub fn with_oom_score<R>(score: i32, work: impl FnOnce() -> R) -> io::Result<R> {
    let before = oom_score();
    set_oom_score(score)?;
    let result = work();
    set_oom_score(before)?;
    Ok(result)
}

/// The capabilities that this process may use and hand on: a bit for each, by its number.
///
/// # Errors
/// The kernel's.
pub fn capabilities() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.ok_or_else(|| io::Error::other("the kernel does not say which capabilities there are"))
}

/// Sets the niceness of the calling thread and of those it will start: from
/// -20 (goes first) to 19 (gives way to all).
///
/// # Errors
/// Lowering it takes a privilege.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: plain numbers; 0 names the calling thread, which is what Linux counts by.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the calling thread, and those it will start, run only where nobody else wants the processor
/// (`SCHED_IDLE`, sched(7)): unlike the highest niceness, it is put aside at once when somebody does.
///
/// # Errors
/// The kernel's.
pub fn set_idle() -> io::Result<()> {
    set_policy(libc::SCHED_IDLE, 0)
}

/// Lets the calling thread run as soon as it has something to do, whatever else there is, in turns with its like
/// (`SCHED_RR`, sched(7)). For threads that others wait for and that work briefly. Those it will start are ordinary ones.
///
/// # Errors
/// The kernel's: it takes a privilege, and a control group that may have such threads.
pub fn set_real_time() -> io::Result<()> {
    set_policy(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

fn set_policy(policy: i32, priority: i32) -> io::Result<()> {
    let wanted = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameter outlives the call, which only reads it; 0 names the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &wanted) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps the calling thread, and those it will start, to some of the processors, by their numbers.
///
/// # Errors
/// The kernel's: none of these is there.
pub fn set_processors(processors: impl IntoIterator<Item = usize>) -> io::Result<()> {
    // SAFETY: a set of bits, for which all zeros is the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in processors {
        if processor < 8 * size_of_val(&set) {
            // SAFETY: the set has that bit.
            unsafe { libc::CPU_SET(processor, &mut set) };
        }
    }
    // SAFETY: the set outlives the call, which only reads it; 0 names the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets a write to a pipe whose reader has gone end this process in silence, as it ends every other
/// command. Rust's own programs get an error instead, which `println!` panics about.
///
/// # Errors
/// The kernel's.
pub fn end_on_broken_pipe() -> io::Result<()> {
    // SAFETY: the default action runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    Ok(())
}

/// Lets this process have as many files and sockets open as it can be allowed; how many that is.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> io::Result<u64> {
    /// What the kernel takes by default (`fs.nr_open`).
    const MOST: u64 = 1 << 20;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Beyond its hard limit only with a privilege; without it, up to it.
    if hard < MOST && setrlimit(Resource::RLIMIT_NOFILE, MOST, MOST).is_ok() {
        return Ok(MOST);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Sets how many files programs find they may open unless they ask for more.
///
/// # Errors
/// The kernel's.
pub fn lower_open_files(soft: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

/// Refuses this process more memory of its own than so many bytes, and core files.
///
/// # Errors
/// The kernel's.
pub fn limit_memory(bytes: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?)
}

/// Gives memory that was freed back to the system. The C library keeps what
/// lies below something still in use, so after a burst a process stays as
/// large as it was at its height. Costs a walk over its free lists: for after
/// bursts, not for every day.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and touches only the allocator's own state, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that were freed and that the C library keeps for later, given back to the system or not; 0 where it does
/// not say. Costs a look at its free lists.
pub fn kept_memory() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes nothing and reads only the allocator's own state, under its locks.
        let info = unsafe { libc::mallinfo2() };
        info.fordblks as u64
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_go_up_and_down() {
        let most = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (most, most));
        lower_open_files(100).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (100, most));
    }

    #[test]
    fn memory_that_was_freed_goes_back() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let mut blocks: Vec<Vec<u8>> = (0..64 << 10).map(|_| vec![1; 1000]).collect();
        // The last one stays in use, above all others.
        let last = blocks.pop();
        let held = kept_memory();
        drop(blocks);
        assert!(!cfg!(target_env = "gnu") || kept_memory() > held + (32 << 20));
        let before = resident();
        trim_memory();
        let after = resident();
        drop(last);
        assert!(
            after + (30 << 20) < before,
            "{before} bytes before, {after} after"
        );
    }
}
