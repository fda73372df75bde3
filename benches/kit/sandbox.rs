//! Namespaces for one benchmark: default ports are free in them, and whatever
//! it starts ends with it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

const MARK: &str = "CORACLE_BENCH_SCRATCH";

/// The address of the sandbox's only link, which nodes take for theirs.
pub const NODE_IP: &str = "192.0.2.10";

/// Runs this program again in a sandbox. Gives the scratch folder inside of
/// it, and `None` outside, when everything is over.
pub fn enter() -> anyhow::Result<Option<PathBuf>> {
    if let Some(scratch) = std::env::var_os(MARK) {
        prepare()?;
        return Ok(Some(scratch.into()));
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "benchmarks need root, for namespaces"
    );
    let scratch = tempfile::Builder::new().prefix("coracle-bench-").tempdir()?;
    // `exit $?` keeps the shell from replacing itself: as process 1 it reaps orphans.
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ])
        .args(["--", "sh", "-c", "\"$@\"; exit $?", "sandbox"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, scratch.path())
        .status()
        .context("unshare, from util-linux")?;
    ensure!(status.success(), "the benchmark failed, see above");
    Ok(None)
}

/// Loopback, and one link with an address: a machine on a switch of its own.
fn prepare() -> anyhow::Result<()> {
    run("ip", &["link", "set", "lo", "up"])?;
    run(
        "ip",
        &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"],
    )?;
    run("ip", &["addr", "add", &format!("{NODE_IP}/24"), "dev", "lan0"])?;
    run("ip", &["link", "set", "lan0", "up"])?;
    run("ip", &["link", "set", "lan1", "up"])?;
    run("ip", &["route", "add", "default", "via", "192.0.2.1"])
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| format!("running {program}"))?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}
