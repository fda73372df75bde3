//! Our store within the process that writes: what is left when no front is in between. A process of its own, so that
//! its CPU time can be told from the rest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kit::process::own_cpu;
use store::{Expect, Op, Record, Store};

use crate::load::{KEYS, Round};
use crate::pipes;
use crate::value::{REVISION_AT, Values, key, scattered};

/// Writers and their store in one process.
#[derive(clap::Args)]
pub struct Inside {
    /// The store's folder.
    #[arg(long)]
    dir: PathBuf,
    /// How many writers.
    #[arg(long)]
    clients: usize,
    /// How long they write.
    #[arg(long)]
    seconds: u64,
}

/// Writes, and prints what came of it in one line.
pub async fn write(inside: Inside) -> anyhow::Result<()> {
    let store = pipes::open(&inside.dir, None, None).await?;
    let (values, numbers) = (Values::new(), Arc::new(AtomicU64::new(0)));
    let (began, before) = (Instant::now(), own_cpu());
    let time = Duration::from_secs(inside.seconds);
    let mut tasks = vec![];
    for _ in 0..inside.clients {
        let work = commit(store.clone(), values.clone(), numbers.clone(), began + time);
        tasks.push(tokio::spawn(work));
    }
    let mut latencies = vec![];
    for task in tasks {
        latencies.extend(task.await??);
    }
    let round = Round::of(latencies, began.elapsed());
    let cpu = (own_cpu() - before).as_secs_f64();
    println!(
        "{} {} {} {} {cpu}",
        round.calls, round.per_second, round.p50, round.p99
    );
    store.close().await;
    Ok(())
}

async fn commit(
    store: Store,
    values: Values,
    numbers: Arc<AtomicU64>,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = vec![];
    while Instant::now() < end {
        let number = scattered(numbers.fetch_add(1, Ordering::Relaxed), KEYS);
        let asked = Instant::now();
        let op = Op::Put {
            key: String::from_utf8(key(number).into())?,
            record: Record {
                text: values.next(),
                revision_at: REVISION_AT,
                ..Record::default()
            },
            expect: Expect::Any,
        };
        store.commit(vec![op]).await?;
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

/// Runs such a process; what it printed, and its CPU time.
pub fn measure(dir: &Path, clients: usize, seconds: u64) -> anyhow::Result<(Round, Duration)> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("inside")
        .arg("--dir")
        .arg(dir)
        .args([
            "--clients",
            &clients.to_string(),
            "--seconds",
            &seconds.to_string(),
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Option<Vec<f64>> = said.split_whitespace().map(|word| word.parse().ok()).collect();
    let figures = figures.with_context(|| format!("figures: {said}"))?;
    let [calls, per_second, p50, p99, cpu] = figures[..] else {
        anyhow::bail!("five figures: {said}");
    };
    let calls = calls as u64;
    let round = Round {
        calls,
        per_second,
        p50,
        p99,
    };
    Ok((round, Duration::from_secs_f64(cpu)))
}
