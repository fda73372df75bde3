//! `down`: stop the node and take its traces off the host.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::AgentConfig;
use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DataDir;
use crate::folder;

/// How long a node may take to end in order before it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct DownArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// Remove the data folder too: all objects, images and volumes are lost
    #[arg(long)]
    purge: bool,
}

pub(super) fn run(args: DownArgs) -> anyhow::Result<()> {
    let dir = args.data_dir.data_dir;
    if !dir.exists() {
        println!("nothing to do: there is no {}", dir.display());
        return Ok(());
    }
    stop(&dir)?;
    let dir = std::fs::canonicalize(&dir)?;
    if let Some(instance_id) = folder::read_identity(&dir)? {
        remove_traces(&dir, &instance_id)?;
    }
    if args.purge {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        println!("removed {}", dir.display());
    }
    Ok(())
}

/// Ends the process that runs in the folder.
fn stop(dir: &Path) -> anyhow::Result<()> {
    let Some(pid) = folder::owner(dir) else {
        return Ok(());
    };
    println!("stopping process {pid}");
    let process = Pid::from_raw(pid);
    kill(process, Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))?;
    let began = Instant::now();
    let mut killed = false;
    while folder::owner(dir).is_some() {
        if began.elapsed() > STOP_MAX && !killed {
            killed = true;
            eprintln!("process {pid} does not end: killing it");
            kill(process, Signal::SIGKILL).with_context(|| format!("cannot kill process {pid}"))?;
        }
        if began.elapsed() > STOP_MAX * 2 {
            bail!("process {pid} still holds {}", dir.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Ends the pods and removes links, rules, namespaces, mounts and control groups.
fn remove_traces(dir: &Path, instance_id: &str) -> anyhow::Result<()> {
    // Only folder and instance matter to what is removed; the rest of the settings never left memory.
    let config = AgentConfig::new("", dir.to_owned(), instance_id, Ipv4Addr::LOCALHOST.into());
    super::once::block_on(async { Ok(agent::teardown(&config).await?) })
        .context("cannot remove all that the node made on this host")?;
    println!(
        "nothing of this node is left on the host; its objects are in {}",
        dir.display()
    );
    Ok(())
}
