//! What the processes of a control group may use, and what each group weighs
//! when there is not enough for all.

use std::fs;
use std::io;
use std::path::Path;

use super::{Hierarchy, aside, hierarchies, in_use};

/// Limits of a group; `None` leaves what the kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Weight under contention as version 1 counts it: 1024 is a whole core, 2 the least.
    pub cpu_shares: Option<u64>,
    /// Most thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Most bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
}

/// Period over which the kernel accounts a CPU limit, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The shortest run in a period that the kernel takes, in microseconds.
const QUOTA_US_MIN: u64 = 1000;

/// Makes a group where it is needed for these limits, and sets them. Groups below it share them.
///
/// # Errors
/// What the kernel said, with the file it was about.
pub fn limit(path: &str, limits: &Limits) -> io::Result<()> {
    apply(&hierarchies(), path, limits)
}

/// Has the processes of a group run on these processors, as the kernel writes them (`0-2,7`). Writes only what changes.
///
/// # Errors
/// What the kernel said, with the file it was about.
pub fn pin(path: &str, cpus: &str) -> io::Result<()> {
    for hierarchy in hierarchies()
        .iter()
        .filter(|hierarchy| hierarchy.offers("cpuset"))
    {
        let file = hierarchy.group(path).join("cpuset.cpus");
        if fs::read_to_string(&file).is_ok_and(|known| known.trim() == cpus) {
            continue;
        }
        fs::write(&file, cpus).map_err(|error| about(&file, &error))?;
    }
    Ok(())
}

fn apply(hierarchies: &[Hierarchy], path: &str, limits: &Limits) -> io::Result<()> {
    for hierarchy in hierarchies {
        let group = hierarchy.group(path);
        let settings: Vec<(&str, &str, String)> = if hierarchy.is_v2() {
            let offered = fs::read_to_string(hierarchy.root.join("cgroup.controllers")).unwrap_or_default();
            let mut settings = limits.v2();
            settings.retain(|(controller, ..)| offered.split_whitespace().any(|c| c == *controller));
            settings
        } else {
            let mut settings = limits.v1();
            settings.retain(|(controller, ..)| hierarchy.controllers.iter().any(|c| c == controller));
            settings
        };
        if settings.is_empty() {
            continue;
        }
        fs::create_dir_all(&group).map_err(|error| about(&group, &error))?;
        if hierarchy.is_v2() {
            check_fits(&group, limits)?;
            delegate(&hierarchy.root, &group, &settings)?;
        }
        for (_, file, value) in settings {
            let file = group.join(file);
            fs::write(&file, value).map_err(|error| about(&file, &error))?;
        }
    }
    Ok(())
}

/// Version 2 offers a group only the controllers that each group above it passes on.
fn delegate(root: &Path, group: &Path, settings: &[(&str, &str, String)]) -> io::Result<()> {
    let mut above: Vec<&Path> = group
        .ancestors()
        .skip(1)
        .take_while(|a| a.starts_with(root))
        .collect();
    above.reverse();
    for folder in above {
        let file = folder.join("cgroup.subtree_control");
        if folder == root {
            aside::make_room(root).map_err(|error| about(&file, &error))?;
        }
        for (controller, ..) in settings {
            fs::write(&file, format!("+{controller}")).map_err(|error| about(&file, &error))?;
        }
    }
    Ok(())
}

/// Version 2 would end processes of a group to get it below a new limit; version 1 refuses the limit, and so do we.
fn check_fits(group: &Path, limits: &Limits) -> io::Result<()> {
    match (limits.memory_bytes, in_use(group)) {
        (Some(bytes), used) if used > bytes => {
            let text = format!("{}: {used} bytes are in use, more than {bytes}", group.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
        _ => Ok(()),
    }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Limits {
    fn quota_us(&self) -> Option<u64> {
        let millis = self.cpu_millis.filter(|millis| *millis > 0)?;
        Some((millis.saturating_mul(PERIOD_US) / 1000).max(QUOTA_US_MIN))
    }

    /// Controller, file and content, in the order in which they are written.
    fn v1(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut list = Vec::new();
        let mut add = |controller, file, value: Option<u64>| {
            list.extend(value.map(|value| (controller, file, value.to_string())));
        };
        add("cpu", "cpu.shares", self.cpu_shares.map(|shares| shares.max(2)));
        add("cpu", "cpu.cfs_period_us", self.quota_us().map(|_| PERIOD_US));
        add("cpu", "cpu.cfs_quota_us", self.quota_us());
        add("memory", "memory.limit_in_bytes", self.memory_bytes);
        add("pids", "pids.max", self.pids);
        list
    }

    fn v2(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut list = Vec::new();
        let mut add = |controller, file, value: Option<String>| {
            list.extend(value.map(|value| (controller, file, value)));
        };
        add(
            "cpu",
            "cpu.weight",
            self.cpu_shares.map(|s| weight(s).to_string()),
        );
        add(
            "cpu",
            "cpu.max",
            self.quota_us().map(|quota| format!("{quota} {PERIOD_US}")),
        );
        add(
            "memory",
            "memory.max",
            self.memory_bytes.map(|bytes| bytes.to_string()),
        );
        add("pids", "pids.max", self.pids.map(|pids| pids.to_string()));
        list
    }
}

/// Version 2's weight (1 to 10000, 100 where nothing is said) for version 1's shares (2 to 262144, 1024 where nothing is
/// said): along the curve through these three points that the runtimes follow (runc 1.3.2, crun 1.23, libcgroups 0.6).
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SOME: Limits = Limits {
        cpu_shares: Some(512),
        cpu_millis: Some(250),
        memory_bytes: Some(64 << 20),
        pids: Some(100),
    };

    fn made(controllers: &[&str]) -> (tempfile::TempDir, Hierarchy) {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy {
            root: root.path().to_owned(),
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        };
        (root, hierarchy)
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn version_1_gets_what_its_controllers_know() {
        let (root, cpu) = made(&["cpu", "cpuacct"]);
        apply(std::slice::from_ref(&cpu), "/top/pod", &SOME).unwrap();
        let group = root.path().join("top/pod");
        assert_eq!(read(group.join("cpu.shares")), "512");
        assert_eq!(read(group.join("cpu.cfs_quota_us")), "25000");
        assert!(!group.join("pids.max").exists());
        let (other, freezer) = made(&["freezer"]);
        apply(&[freezer], "/top/pod", &SOME).unwrap();
        assert!(!other.path().join("top").exists());
    }

    #[test]
    fn version_2_passes_controllers_down_and_weighs_anew() {
        let (root, unified) = made(&[]);
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        apply(&[unified], "/top/pod", &SOME).unwrap();
        let group = root.path().join("top/pod");
        assert_eq!(read(group.join("cpu.max")), "25000 100000");
        assert_eq!(read(group.join("cpu.weight")), "59");
        assert_eq!(read(group.join("memory.max")), (64 << 20).to_string());
        // A real hierarchy adds up; the last word is what a plain file keeps.
        for folder in [root.path().to_owned(), root.path().join("top")] {
            assert_eq!(read(folder.join("cgroup.subtree_control")), "+pids");
        }
        assert!(!group.join("cgroup.subtree_control").exists());
    }

    #[test]
    fn a_hybrid_tree_without_controllers_is_left_alone() {
        let (root, unified) = made(&[]);
        fs::write(root.path().join("cgroup.controllers"), "hugetlb\n").unwrap();
        apply(&[unified], "/top/pod", &SOME).unwrap();
        assert!(!root.path().join("top").exists());
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!([0, 2, 102, 1024, 262_144].map(weight), [1, 1, 17, 100, 10_000]);
    }
}
