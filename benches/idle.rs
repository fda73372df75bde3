//! What an idle node costs. Its data folder lies on a file system of its own,
//! on a loop device whose counters say what reached the disk: those of a
//! process do not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::node::Node;
use crate::sandbox::run;
use crate::table::{self, mib};

/// How long a fresh node settles before it counts as idle.
const SETTLING: Duration = Duration::from_secs(30);

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let disk = Disk::mount(scratch)?;
    let node = Node::start(bin, &disk.folder, &[])?;
    node.ready().await?;
    tokio::time::sleep(SETTLING).await;
    disk.sync();
    let before = (node.cpu(), disk.written(), sent());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    disk.sync();
    let after = (node.cpu(), disk.written(), sent());
    let hourly = |bytes: u64| format!("{:.2} MiB", mib(bytes) * 3600.0 / seconds as f64);
    let share = (after.0 - before.0).as_secs_f64() / seconds as f64;
    table::print(
        &format!("One idle node (server and agent), looked at for {seconds} s"),
        &["what", "value"],
        &[
            vec![
                "resident memory".into(),
                format!("{:.0} MiB", mib(node.memory("VmRSS"))),
            ],
            vec![
                "of it anonymous".into(),
                format!("{:.0} MiB", mib(node.memory("RssAnon"))),
            ],
            vec!["CPU".into(), format!("{:.2} % of a core", share * 100.0)],
            vec![
                "written to the device per hour".into(),
                hourly(after.1 - before.1),
            ],
            vec!["sent over its links per hour".into(), hourly(after.2 - before.2)],
        ],
    );
    Ok(())
}

/// A file system in a file.
struct Disk {
    folder: PathBuf,
    device: String,
}

impl Disk {
    fn mount(scratch: &Path) -> anyhow::Result<Self> {
        let (file, folder) = (scratch.join("disk"), scratch.join("mounted"));
        std::fs::File::create(&file)?.set_len(2 << 30)?;
        std::fs::create_dir_all(&folder)?;
        let path = |path: &Path| path.display().to_string();
        run(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &path(&file)],
        )?;
        run("mount", &["-o", "loop", &path(&file), &path(&folder)])?;
        let found = Command::new("findmnt")
            .args(["-no", "SOURCE"])
            .arg(&folder)
            .output()?;
        let device = String::from_utf8_lossy(&found.stdout)
            .trim()
            .trim_start_matches("/dev/")
            .to_owned();
        Ok(Self { folder, device })
    }

    fn sync(&self) {
        // What is still in memory would be counted to the next look.
        let _ = Command::new("sync").arg("-f").arg(&self.folder).status();
    }

    /// Bytes written to the device so far.
    fn written(&self) -> u64 {
        let stat =
            std::fs::read_to_string(format!("/sys/class/block/{}/stat", self.device)).unwrap_or_default();
        let sectors = stat.split_whitespace().nth(6).context("the seventh figure");
        sectors
            .ok()
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .unwrap_or(0)
            * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["-l", &self.folder.display().to_string()]) {
            eprintln!("{error}");
        }
    }
}

/// Bytes sent over every link but loopback.
fn sent() -> u64 {
    let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let links = table.lines().filter_map(|line| line.split_once(':'));
    let others = links.filter(|(name, _)| name.trim() != "lo");
    others
        .filter_map(|(_, figures)| figures.split_whitespace().nth(8)?.parse::<u64>().ok())
        .sum()
}
