//! What this machine is and how full it is, read from `/proc` and `/etc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cpus::CpuSet;
use crate::fill::Fill;

/// Bytes in huge pages, by the size of a page in bytes.
pub type HugePages = BTreeMap<u64, u64>;

/// What does not change while the machine is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cores.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes in huge pages, by the size of a page: kept apart from other memory when the agent starts.
    pub huge_pages: HugePages,
    /// Bytes of the file system under the data folder.
    pub storage_bytes: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// DMI's UUID, where there is one.
    pub system_uuid: String,
    /// New with each boot.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub os_image: String,
    /// Go's name of the architecture, such as `amd64`.
    pub architecture: &'static str,
}

/// How full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of memory that could be had without swapping.
    pub memory_available_bytes: u64,
    /// Bytes free on the file system under the data folder.
    pub storage_available_bytes: u64,
    /// All bytes of it.
    pub storage_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Most of these.
    pub tasks_max: u64,
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

impl Machine {
    /// Looks at the machine.
    pub fn read(data: &Path) -> Machine {
        let os = text("/etc/os-release");
        let machine_id = text("/etc/machine-id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_bytes: meminfo(&text("/proc/meminfo"), "MemTotal"),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            storage_bytes: storage(data).1,
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: boot_id(),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_release(&os),
            architecture: go_architecture(std::env::consts::ARCH),
        }
    }
}

impl Load {
    /// Looks at it now.
    pub fn read(data: &Path) -> Load {
        let (available, all) = storage(data);
        // "running/all" is the fourth field of loadavg.
        let tasks = text("/proc/loadavg")
            .split([' ', '/'])
            .nth(4)
            .and_then(|n| n.parse().ok());
        let number = |path| text(path).parse::<u64>().unwrap_or(u64::MAX);
        Load {
            memory_available_bytes: meminfo(&text("/proc/meminfo"), "MemAvailable"),
            storage_available_bytes: available,
            storage_bytes: all,
            tasks: tasks.unwrap_or(0),
            tasks_max: number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max")),
        }
    }
}

/// The processors that this process may use.
pub fn cpus() -> CpuSet {
    let status = text("/proc/self/status");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| list.parse().ok()).unwrap_or_default()
}

/// Which start of the machine this is: mounts and processes do not outlive it.
pub fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id")
}

/// Bytes available and in all.
fn storage(data: &Path) -> (u64, u64) {
    let read = Fill::of(data).or_else(|| Fill::of(Path::new("/")));
    let (all, available, _) = read.unwrap_or_default().bytes;
    (available, all)
}

/// What the kernel's folder of huge pages says: one below it for each size.
fn huge_pages(folder: &Path) -> HugePages {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = sizes.filter_map(|size| {
        let name = size.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let number = fs::read_to_string(size.path().join("nr_hugepages")).ok()?;
        let page = kib.checked_mul(1024)?;
        Some((page, page.checked_mul(number.trim().parse().ok()?)?))
    });
    found.collect()
}

fn meminfo(text: &str, field: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn os_release(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// Go's name for one of Rust's architectures.
pub fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "riscv64" => "riscv64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        let info = "MemTotal:       24659468 kB\nMemFree: 1 kB\nMemAvailable:   100 kB\n";
        assert_eq!(meminfo(info, "MemTotal"), 24_659_468 * 1024);
        assert_eq!(meminfo(info, "MemAvailable"), 102_400);
        assert_eq!(meminfo(info, "Nothing"), 0);
        assert_eq!(
            os_release("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
    }

    #[test]
    fn huge_pages_are_counted_by_their_size() {
        let folder = tempfile::tempdir().unwrap();
        for (size, number) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "0\n"),
            ("else", "7\n"),
        ] {
            fs::create_dir(folder.path().join(size)).unwrap();
            fs::write(folder.path().join(size).join("nr_hugepages"), number).unwrap();
        }
        assert_eq!(
            huge_pages(folder.path()),
            [(2 << 20, 6 << 20), (1 << 30, 0)].into()
        );
        assert!(huge_pages(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn this_machine_has_something() {
        assert_eq!(cpus().len() as u64, Machine::read(Path::new("/")).cpus);
        let machine = Machine::read(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.storage_bytes > 0);
        let load = Load::read(Path::new("/"));
        assert!(load.memory_available_bytes > 0 && load.tasks > 0 && load.tasks_max > load.tasks);
    }
}
