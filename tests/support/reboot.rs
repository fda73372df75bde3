//! A reboot of the scenario's whole machine: what a kernel forgets is
//! forgotten, what is on disk stays.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::instances::instance_ids;
use super::leftovers;

/// Ends every process but the scenario and takes all kernel objects away that
/// nodes in `dir` have made; files stay. The network is as at the scenario's beginning.
pub fn machine(dir: &Path) {
    end_everything();
    for mount in leftovers::mount_points(dir).iter().rev() {
        run("umount", &["-l", mount]);
    }
    for id in instance_ids(dir) {
        let group = format!("/coracle-{id}");
        sys::cgroup::kill_all(&group);
        sys::cgroup::remove(&group).expect("its control groups");
    }
    run("nft", &["flush", "ruleset"]);
    for link in leftovers::links() {
        // The other end of a pair goes with the first.
        let _ = Command::new("ip").args(["link", "del", &link]).output();
    }
    for route in leftovers::routes() {
        let words: Vec<&str> = route.split(' ').collect();
        let _ = Command::new("ip").args(["route", "del"]).args(words).output();
    }
    let _ = Command::new("conntrack").arg("-F").output();
    let left: Vec<String> = leftovers::find(dir);
    assert!(left.is_empty(), "the reboot left: {left:#?}");
}

/// SIGKILL to every process of the sandbox but its first and this one.
fn end_everything() {
    let began = Instant::now();
    loop {
        let others = others();
        if others.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{others:?} do not end");
        for pid in others {
            // One that ended meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn others() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).expect("a process id");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != 1 && *pid != own && !is_zombie(*pid))
        .collect()
}

/// A process that has ended and that its parent, this one, has not asked about yet.
fn is_zombie(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:\tZ"))
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}
