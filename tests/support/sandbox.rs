//! Runs a scenario in namespaces of its own.
//!
//! The test starts itself again under `unshare`, below a shell that is process
//! 1 of a new process namespace: whatever the scenario started ends with it,
//! and orphans (shims outlive their node) are reaped as on a real machine. The
//! first copy, outside, removes the control groups, which outlive processes.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::instances::instance_ids;
use super::leftovers;

const MARK: &str = "CORACLE_SCENARIO_DIR";

/// Written when a scenario came to its end: proves that a test of that name was found and ran.
const DONE: &str = "scenario-done";

/// Address of the sandbox's only link; clusters take it for the node's.
pub const NODE_IP: &str = "192.0.2.10";

/// Runs `scenario` in a sandbox, with a folder for its files; call it from a test function's top.
///
/// Afterwards nothing that a node makes may be left in the sandbox.
pub fn sandboxed<F: FnOnce(&Path)>(scenario: F) {
    if let Some(dir) = std::env::var_os(MARK) {
        let dir = Path::new(&dir);
        prepare();
        scenario(dir);
        leftovers::assert_none(dir);
        std::fs::write(dir.join(DONE), "").expect("the scenario's folder");
        return;
    }
    let test = test_name::<F>();
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must run the scenarios as root"
        );
        eprintln!("SKIPPED {test}: it needs root, for namespaces");
        return;
    }
    let dir = tempfile::Builder::new()
        .prefix("coracle-scenario-")
        .tempdir()
        .expect("a temporary folder");
    // `exit $?` keeps the shell from replacing itself by the program: it stays to reap.
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
            "--",
        ])
        .args(["sh", "-c", "\"$@\"; exit $?", "sandbox"])
        .arg(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            test,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(MARK, dir.path())
        .process_group(0)
        .status()
        .expect("unshare, from util-linux");
    clean_up(dir.path());
    if std::env::var_os("CORACLE_KEEP").is_some() {
        eprintln!("kept {}", dir.path().display());
        assert!(status.success(), "the scenario failed, see above");
        let _ = dir.keep();
        return;
    }
    assert!(status.success(), "the scenario failed, see above");
    assert!(
        dir.path().join(DONE).exists(),
        "no test of the name {test} ran in the sandbox"
    );
}

/// The test's path as the test harness knows it, told by the closure's type:
/// `CRATE::MODULE::TEST::{{closure}}`.
fn test_name<F>() -> &'static str {
    let whole = std::any::type_name::<F>();
    let inner = whole.split_once("::").map_or(whole, |(_, rest)| rest);
    inner.split_once("::{{closure}}").map_or(inner, |(test, _)| test)
}

/// A network with loopback and one address: a machine on a switch without anything else.
fn prepare() {
    run("ip", &["link", "set", "lo", "up"]);
    run(
        "ip",
        &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"],
    );
    run("ip", &["addr", "add", &format!("{NODE_IP}/24"), "dev", "lan0"]);
    run("ip", &["link", "set", "lan0", "up"]);
    run("ip", &["link", "set", "lan1", "up"]);
    run("ip", &["route", "add", "default", "via", "192.0.2.1"]);
}

/// Runs a program of this machine that must succeed.
pub fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}

/// Removes the control groups of every node that ran in the folder.
fn clean_up(dir: &Path) {
    for id in instance_ids(dir) {
        // A profile of AppArmor, where the kernel has such.
        let _ = std::fs::write("/sys/kernel/security/apparmor/.remove", format!("coracle-{id}"));
        let group = format!("/coracle-{id}");
        sys::cgroup::kill_all(&group);
        if let Err(error) = sys::cgroup::remove(&group) {
            eprintln!("cannot remove {group}: {error}");
        }
    }
}
