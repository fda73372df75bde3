//! `down`: stop the node and take its traces off the host.

use std::path::Path;
use std::time::{Duration, Instant};

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
    while folder::owner(dir).is_some() {
        if began.elapsed() > STOP_MAX {
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
    #[cfg(feature = "oci")]
    {
        let ended = super::block_on(async {
            let images = oci::Images::open(oci::ImagesConfig {
                dir: dir.join("images"),
                insecure_registries: Vec::new(),
            })
            .await?;
            let containers = oci::ContainersConfig {
                dir: dir.join("containers"),
                instance_id: instance_id.to_owned(),
                program: std::env::current_exe()?,
            };
            Ok(oci::end_all(&containers, &images).await?)
        })
        .context("cannot end the pods")?;
        if ended > 0 {
            println!("ended the containers of {ended} pods");
        }
    }
    network::cleanup(instance_id, dir).context("cannot remove the network")?;
    unmount_below(&dir.join("pods"))?;
    println!(
        "nothing of this node is left on the host; its objects are in {}",
        dir.display()
    );
    Ok(())
}

/// Volumes in memory are mounts; the deepest go first.
fn unmount_below(dir: &Path) -> anyhow::Result<()> {
    let table = std::fs::read_to_string("/proc/self/mounts")?;
    let mut mounts: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| Path::new(path).starts_with(dir))
        .collect();
    mounts.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in mounts {
        nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {path}"))?;
    }
    Ok(())
}
