//! What a node may have left on its host.

use std::path::Path;
use std::process::Command;

use super::instances::instance_ids;

/// Fails if anything of ours is left in this sandbox: call it after `coracle down`.
pub fn assert_none(dir: &Path) {
    let found = find(dir);
    assert!(found.is_empty(), "coracle left behind:\n{}", found.join("\n"));
}

/// Links, routes, tables, mounts, control groups and processes of nodes that ran in `dir`.
pub fn find(dir: &Path) -> Vec<String> {
    let mut found = of_host(dir);
    found.extend(
        control_groups(dir)
            .into_iter()
            .map(|g| format!("control group {g}")),
    );
    found.extend(processes().into_iter().map(|p| format!("process {p}")));
    found
}

/// Where something of ours is mounted, in the order of mounting.
pub fn mount_points(dir: &Path) -> Vec<String> {
    let points = mounts(dir).into_iter();
    points
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect()
}

/// The names of links that were not there to begin with.
pub fn links() -> Vec<String> {
    let lines = lines("ip", &["-o", "link"]).filter(|link| !is_ours_to_begin_with(link));
    let names = lines.filter_map(|line| line.split([':', '@']).nth(1).map(|name| name.trim().to_owned()));
    names.collect()
}

/// Routes that were not there to begin with.
pub fn routes() -> Vec<String> {
    // A device that has its number for a name has gone since the kernel was asked, and its routes with it.
    let gone = |route: &String| {
        let device = route.split_once(" dev if").map(|(_, rest)| rest);
        device.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    loop {
        let all: Vec<String> = lines("ip", &["route"]).collect();
        if !all.iter().any(gone) {
            return all.into_iter().filter(|route| !route.contains("lan0")).collect();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Those that belong to one host: links, routes, tables and mounts, as a thread of that host sees them.
pub fn of_host(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(
        lines("ip", &["-o", "link"])
            .filter(|link| !is_ours_to_begin_with(link))
            .map(|l| format!("link {l}")),
    );
    found.extend(routes().into_iter().map(|route| format!("route {route}")));
    found.extend(lines("ip", &["rule"]).skip(3).map(|r| format!("rule {r}")));
    found.extend(lines("nft", &["list", "tables"]).map(|t| format!("nft {t}")));
    found.extend(mounts(dir).into_iter().map(|m| format!("mount {m}")));
    found
}

fn is_ours_to_begin_with(link: &str) -> bool {
    [" lo:", " lan0@", " lan1@"]
        .iter()
        .any(|name| link.contains(name))
}

fn lines(program: &str, args: &[&str]) -> impl Iterator<Item = String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines()
        .map(|line| line.trim().to_owned())
        .collect::<Vec<_>>()
        .into_iter()
}

fn mounts(dir: &Path) -> Vec<String> {
    let dir = format!("{}/", dir.display());
    // Read by a program, since a visiting thread has no `/proc/self` in another process namespace.
    // Apart from the scenario's folder itself, which further hosts have mounted.
    let theirs =
        |target: &str| target.starts_with(&dir) || target.contains("coracle") && !dir.starts_with(target);
    lines("cat", &["/proc/self/mounts"])
        .filter(|line| line.split(' ').nth(1).is_some_and(theirs))
        .collect()
}

fn control_groups(dir: &Path) -> Vec<String> {
    let ids = instance_ids(dir);
    let mut found = Vec::new();
    let roots = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for root in roots.chain([std::path::PathBuf::from("/sys/fs/cgroup")]) {
        found.extend(
            ids.iter()
                .map(|id| root.join(format!("coracle-{id}")))
                .filter(|group| group.exists()),
        );
    }
    found.iter().map(|group| group.display().to_string()).collect()
}

/// The command lines of processes that run our program.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let texts = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    texts
        .filter(|text| {
            text.split(' ')
                .next()
                .is_some_and(|program| program.ends_with("coracle"))
        })
        .collect()
}
