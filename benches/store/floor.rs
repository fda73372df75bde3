//! What the disk itself needs for one durable write.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use kit::process::own_cpu;

use crate::load::Round;

/// Bytes of one write: a value and what belongs to it.
const WRITE_BYTES: usize = 1200;
const FILE_BYTES: usize = 16 << 20;

/// Writes and syncs for so long, one after the other, within a file that is there already.
pub fn measure(dir: &Path, time: Duration) -> anyhow::Result<(Round, Duration)> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("floor");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    let (began, before, mut latencies) = (Instant::now(), own_cpu(), vec![]);
    let bytes = vec![b'x'; WRITE_BYTES];
    while began.elapsed() < time {
        let asked = Instant::now();
        let at = latencies.len() * WRITE_BYTES % (FILE_BYTES - WRITE_BYTES);
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        latencies.push(asked.elapsed());
    }
    let round = Round::of(latencies, began.elapsed());
    let cpu = own_cpu() - before;
    std::fs::remove_file(path)?;
    Ok((round, cpu))
}
