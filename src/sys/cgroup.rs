//! Control groups, version 1, version 2 and both at once.
//!
//! A group is named by its path below the root of every hierarchy, such as
//! `/coracle-0a1b2c3d/pod…`. Reading and removing are files and folders, so
//! nothing here is unsafe; it lives here because it is the kernel's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod aside;
mod container;
pub mod devices;
mod limit;
mod oom;

pub use container::settle;
pub use limit::{Limits, limit, pin};
pub use oom::oom_notice;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Its controllers; empty for version 2.
    pub controllers: Vec<String>,
}

/// The controllers of version 1: those that the kernel lists beside options and names of hierarchies.
const RESOURCES: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Hierarchy {
    /// The folder of a group.
    pub fn group(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What it is called: the last part of where it is mounted, such as `cpu,cpuacct`.
    pub fn name(&self) -> Option<&str> {
        self.root.file_name()?.to_str()
    }

    /// The resources that it counts, if it is of version 1.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        let all = self.controllers.iter().map(String::as_str);
        all.filter(|name| RESOURCES.contains(name))
    }

    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn offers(&self, controller: &str) -> bool {
        if self.is_v2() {
            let offered = fs::read_to_string(self.root.join("cgroup.controllers")).unwrap_or_default();
            return offered.split_whitespace().any(|c| c == controller);
        }
        self.controllers.iter().any(|c| c == controller)
    }
}

/// The hierarchies that are mounted here.
pub fn hierarchies() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    parse(&table)
}

/// Whether containers can be limited by that controller. Where there are hierarchies of version 1, they are what counts:
/// what version 2 offers beside them applies to nobody, since containers are not put there.
pub fn offers(controller: &str) -> bool {
    let all = hierarchies();
    let (unified, split): (Vec<_>, Vec<_>) = all.iter().partition(|hierarchy| hierarchy.is_v2());
    let counts = if split.is_empty() { unified } else { split };
    counts.into_iter().any(|hierarchy| hierarchy.offers(controller))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    // There is one hierarchy of version 2, however often it is mounted; some show a part of it only.
    let mut unified: Option<(bool, PathBuf)> = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut left = left.split(' ').skip(3);
        let (Some(shown), Some(root)) = (left.next(), left.next()) else {
            continue;
        };
        let mut right = right.split(' ');
        let controllers = match right.next() {
            Some("cgroup2") => {
                let whole = shown == "/";
                if unified.as_ref().is_none_or(|(known, _)| whole && !known) {
                    unified = Some((whole, PathBuf::from(root)));
                }
                continue;
            }
            Some("cgroup") => right
                .nth(1)
                .unwrap_or_default()
                .split(',')
                .map(str::to_owned)
                .collect(),
            _ => continue,
        };
        found.push(Hierarchy {
            root: PathBuf::from(root),
            controllers,
        });
    }
    found.extend(unified.map(|(_, root)| Hierarchy {
        root,
        controllers: Vec::new(),
    }));
    found
}

/// What the processes of a group use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory without page cache that could be dropped at once, in bytes.
    pub memory_bytes: u64,
    /// Number of processes.
    pub pids: u64,
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The memory of a group of version 2, without page cache that could be dropped at once.
fn in_use(group: &Path) -> u64 {
    let inactive = field(&group.join("memory.stat"), "inactive_file").unwrap_or(0);
    let current = number(&group.join("memory.current")).unwrap_or(0);
    current.saturating_sub(inactive)
}

/// What a group uses now; zero where it cannot be told.
pub fn usage(path: &str) -> Usage {
    let mut usage = Usage::default();
    for hierarchy in hierarchies() {
        let group = hierarchy.group(path);
        let has = |name: &str| hierarchy.controllers.iter().any(|c| c == name);
        if hierarchy.is_v2() {
            usage.cpu_ns = usage
                .cpu_ns
                .max(field(&group.join("cpu.stat"), "usage_usec").unwrap_or(0) * 1000);
            usage.memory_bytes = usage.memory_bytes.max(in_use(&group));
            usage.pids = usage.pids.max(number(&group.join("pids.current")).unwrap_or(0));
        }
        if has("cpuacct") {
            usage.cpu_ns = number(&group.join("cpuacct.usage")).unwrap_or(usage.cpu_ns);
        }
        if has("memory") {
            let inactive = field(&group.join("memory.stat"), "total_inactive_file").unwrap_or(0);
            let current = number(&group.join("memory.usage_in_bytes")).unwrap_or(0);
            usage.memory_bytes = current.saturating_sub(inactive);
        }
        if has("pids") {
            usage.pids = number(&group.join("pids.current")).unwrap_or(usage.pids);
        }
    }
    usage
}

/// How many processes of a group the kernel has killed for lack of memory.
pub fn oom_kills(path: &str) -> u64 {
    let counts = hierarchies().into_iter().filter_map(|hierarchy| {
        let group = hierarchy.group(path);
        if hierarchy.is_v2() {
            field(&group.join("memory.events"), "oom_kill")
        } else if hierarchy.controllers.iter().any(|c| c == "memory") {
            field(&group.join("memory.oom_control"), "oom_kill")
        } else {
            None
        }
    });
    counts.max().unwrap_or(0)
}

/// The processes of a group and of the groups below it.
pub fn processes(path: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.group(path), &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn collect(group: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for child in children(group) {
        collect(&child, pids);
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Kills every process of a group and of the groups below it, forks included.
pub fn kill_all(path: &str) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for round in 0..100 {
        // Version 2 kills a group and all below it in one step, forks included.
        for group in hierarchies().iter().filter(|h| h.is_v2()).map(|h| h.group(path)) {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        // A process may fork between being listed and killed: one that keeps
        // doing so is stopped first. What is killed while frozen dies on thawing.
        if round > 0 {
            freeze(path, true);
        }
        let pids = processes(path);
        for pid in &pids {
            // One that ended meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if round > 0 {
            freeze(path, false);
        }
        if pids.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stops every process of a group, or lets them go on; version 1 only.
fn freeze(path: &str, stop: bool) {
    let state = if stop { "FROZEN" } else { "THAWED" };
    for hierarchy in hierarchies() {
        if hierarchy.controllers.iter().any(|c| c == "freezer") {
            let _ = fs::write(hierarchy.group(path).join("freezer.state"), state);
        }
    }
}

/// Removes an empty group and the groups below it from every hierarchy.
///
/// # Errors
/// When a process is left in it.
pub fn remove(path: &str) -> io::Result<()> {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.group(path))?;
    }
    Ok(())
}

fn remove_tree(group: &Path) -> io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for child in children(group) {
        remove_tree(&child)?;
    }
    for _ in 0..50 {
        match fs::remove_dir(group) {
            // A killed process leaves its group a moment after it was reaped.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    Err(io::Error::other(format!("{} is still in use", group.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let found = parse(table);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].controllers, ["rw", "cpu", "cpuacct"]);
        assert!(found[1].is_v2());
        assert_eq!(found[1].group("/a/b"), Path::new("/sys/fs/cgroup/unified/a/b"));
    }

    #[test]
    fn version_2_is_one_however_often_it_is_mounted() {
        let table = "33 31 0:30 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            34 31 0:30 / /run/somebody rw,relatime - cgroup2 cgroup2 rw\n\
            35 31 0:30 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
        let found = parse(table);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].root, Path::new("/run/somebody"));
    }
}
