//! What an idle node costs, on a disk that counts what reaches it.

use std::path::Path;
use std::time::Duration;

use crate::node::Node;
use kit::disk::Disk;
use kit::table::{self, mib};

/// Size of the disk.
const DISK_BYTES: u64 = 2 << 30;

/// How long a fresh node settles before it counts as idle.
const SETTLING: Duration = Duration::from_secs(30);

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let disk = Disk::mount(scratch, DISK_BYTES)?;
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

/// Bytes sent over every link but loopback.
fn sent() -> u64 {
    let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let links = table.lines().filter_map(|line| line.split_once(':'));
    let others = links.filter(|(name, _)| name.trim() != "lo");
    others
        .filter_map(|(_, figures)| figures.split_whitespace().nth(8)?.parse::<u64>().ok())
        .sum()
}
