//! A large store: how much memory it needs, and how soon it serves again after it was killed.

use std::path::Path;

use kit::table::{self, mib, ms};

use crate::load::{Until, What, run};
use crate::servers::{Contestant, Servers};
use crate::value::Values;

const WRITERS: usize = 256;

/// Prints the table.
pub async fn measure(all: &[Contestant], scratch: &Path, keys: u64) -> anyhow::Result<()> {
    let mut rows = vec![];
    for contestant in all {
        let dir = scratch.join("data");
        let mut servers = Servers::start(contestant, 1, &dir).await?;
        let filled = run(
            &servers.leader().await?,
            WRITERS,
            What::Write,
            Until::Written(keys),
            &Values::new(),
        )
        .await?;
        let before = servers.memory();
        let recovered = servers.crash().await?;
        let cpu = servers.cpu();
        rows.push(vec![
            contestant.name.clone(),
            format!("{:.0}", filled.per_second),
            format!("{:.0} MiB", mib(before)),
            format!("{:.0} ms", ms(recovered)),
            format!("{:.2} s", cpu.as_secs_f64()),
            format!("{:.0} MiB", mib(servers.memory())),
            format!("{:.0} MiB", mib(size(&dir))),
        ]);
        drop(servers);
        std::fs::remove_dir_all(&dir)?;
    }
    table::print(
        &format!("A store with {keys} keys of 1 KiB, killed and started again"),
        &[
            "store",
            "writes/s while filled",
            "resident then",
            "serves again after",
            "CPU until then",
            "resident then",
            "its folder",
        ],
        &rows,
    );
    Ok(())
}

fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
