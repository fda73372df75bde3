//! Writes of 1 KiB: how many, how late, at what price.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kit::disk::Disk;
use kit::table::{self, median, mib};

use crate::load::{KEYS, Round, Until, What, run};
use crate::servers::{Contestant, Servers};
use crate::value::Values;
use crate::{floor, inside};

/// How many write at once.
const WRITERS: [usize; 3] = [1, 16, 256];
/// Before anything counts.
const WARMING: Duration = Duration::from_millis(500);
/// Before what reaches the device is counted.
const MAKING_WRITES: u64 = 4 * KEYS;
/// Size of the disk that counts: what each of them writes in a round fits several times.
const DISK_BYTES: u64 = 8 << 30;

/// So many that the merging of the state, once for tens of thousands of them, has its share, however slow the disk.
const COUNTED_WRITES: u64 = 12 * KEYS;
/// A disk that takes less than this in half a second is at rest.
const REST_BYTES: u64 = 256 << 10;
/// It is looked at so often at most.
const LOOKS_MAX: usize = 40;

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Length of a round in seconds.
    pub seconds: u64,
    /// Rounds, in turns.
    pub rounds: usize,
    /// Whether what reaches the device is counted.
    pub counted: bool,
}

/// What one contestant did in one round with so many writers.
#[derive(Clone, Debug, Default)]
struct Figures {
    round: Round,
    /// CPU seconds per 10,000 writes.
    cpu: f64,
    /// Of the member that has most, in bytes.
    memory: u64,
}

/// Everything measured, by who and how many writers.
#[derive(Default)]
struct Measured {
    figures: BTreeMap<(usize, usize), Vec<Figures>>,
    /// Bytes to the device per write and member.
    written: BTreeMap<(usize, usize), f64>,
}

/// Prints the table for a group of so many members.
pub async fn measure(
    all: &[Contestant],
    members: usize,
    scratch: &Path,
    effort: Effort,
) -> anyhow::Result<()> {
    let (mut measured, mut alone, mut floors) = (Measured::default(), Measured::default(), vec![]);
    let dir = scratch.join("data");
    for _ in 0..effort.rounds {
        floors.push(floor::measure(&dir, Duration::from_secs(1))?);
        for (who, contestant) in all.iter().enumerate() {
            let servers = Servers::start(contestant, members, &dir).await?;
            measured.round(who, &servers, effort.seconds).await?;
        }
        for writers in WRITERS.into_iter().filter(|_| members == 1) {
            let (round, cpu) = inside::measure(&dir, writers, effort.seconds)?;
            let cpu = per_10_000(cpu, round.calls);
            let figures = Figures {
                round,
                cpu,
                memory: 0,
            };
            alone.figures.entry((0, writers)).or_default().push(figures);
        }
    }
    for (who, contestant) in all.iter().enumerate().filter(|_| effort.counted) {
        let disk = Disk::mount(scratch, DISK_BYTES)?;
        let servers = Servers::start(contestant, members, &disk.folder.join("data")).await?;
        measured.count(who, &servers, &disk).await?;
    }
    let mut rows = vec![];
    for writers in WRITERS {
        for (who, contestant) in all.iter().enumerate() {
            rows.push(measured.row(who, writers, &contestant.name));
        }
        if members == 1 {
            rows.push(alone.row(0, writers, "coracle, within the writing process"));
        }
    }
    let of = |figure: fn(&Round) -> f64| {
        median(&floors.iter().map(|(round, _)| figure(round)).collect::<Vec<_>>())
    };
    let cpu: Vec<f64> = floors
        .iter()
        .map(|(round, cpu)| per_10_000(*cpu, round.calls))
        .collect();
    rows.push(vec![
        "write and fdatasync of 1,200 bytes, nothing else".into(),
        "1".into(),
        format!("{:.0}", of(|round| round.per_second)),
        format!("{:.2} ms", of(|round| round.p50)),
        format!("{:.2} ms", of(|round| round.p99)),
        format!("{:.2}", median(&cpu)),
        String::new(),
        String::new(),
    ]);
    table::print(
        &format!(
            "Writes of 1 KiB over {KEYS} keys, {members} {}: medians of {} rounds of {} s, in turns",
            if members == 1 { "member" } else { "members" },
            effort.rounds,
            effort.seconds
        ),
        &[
            "store",
            "writers",
            "writes/s",
            "p50",
            "p99",
            "CPU s per 10,000",
            "resident",
            "to the device per write and member",
        ],
        &rows,
    );
    Ok(())
}

impl Measured {
    /// One contestant's turn.
    async fn round(&mut self, who: usize, servers: &Servers, seconds: u64) -> anyhow::Result<()> {
        let (leader, values) = (servers.leader().await?, Values::new());
        for writers in WRITERS {
            run(&leader, writers, What::Write, Until::Elapsed(WARMING), &values).await?;
            let before = servers.cpu();
            let until = Until::Elapsed(Duration::from_secs(seconds));
            let round = run(&leader, writers, What::Write, until, &values).await?;
            let cpu = per_10_000(servers.cpu() - before, round.calls);
            let memory = servers.memory();
            let figures = Figures { round, cpu, memory };
            self.figures.entry((who, writers)).or_default().push(figures);
        }
        Ok(())
    }

    /// Counts what reaches the device, with what is merged and tidied away soon after.
    async fn count(&mut self, who: usize, servers: &Servers, disk: &Disk) -> anyhow::Result<()> {
        let (leader, values) = (servers.leader().await?, Values::new());
        // What is made once, such as files that are used again and again, is of no interest.
        let made = Until::Written(MAKING_WRITES);
        run(&leader, 256, What::Write, made, &values).await?;
        for writers in WRITERS {
            let before = at_rest(disk).await;
            run(
                &leader,
                writers,
                What::Write,
                Until::Written(COUNTED_WRITES),
                &values,
            )
            .await?;
            let bytes = (at_rest(disk).await - before) as f64;
            let writes = (COUNTED_WRITES * servers.count() as u64) as f64;
            self.written.insert((who, writers), bytes / writes);
        }
        Ok(())
    }

    fn row(&self, who: usize, writers: usize, name: &str) -> Vec<String> {
        let rounds = self.figures.get(&(who, writers)).map_or(&[][..], Vec::as_slice);
        let of = |figure: fn(&Figures) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        let memory = of(|figures| mib(figures.memory));
        let written = self.written.get(&(who, writers));
        vec![
            name.to_owned(),
            writers.to_string(),
            format!("{:.0}", of(|figures| figures.round.per_second)),
            format!("{:.2} ms", of(|figures| figures.round.p50)),
            format!("{:.2} ms", of(|figures| figures.round.p99)),
            format!("{:.2}", of(|figures| figures.cpu)),
            if memory > 0.0 {
                format!("{memory:.0} MiB")
            } else {
                String::new()
            },
            written.map_or_else(String::new, |bytes| format!("{:.1} KB", bytes / 1000.0)),
        ]
    }
}

/// Bytes written to the device, once nothing more comes.
async fn at_rest(disk: &Disk) -> u64 {
    let mut before = 0;
    for _ in 0..LOOKS_MAX {
        disk.sync();
        let now = disk.written();
        if now < before + REST_BYTES {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    disk.written()
}

fn per_10_000(cpu: Duration, calls: u64) -> f64 {
    cpu.as_secs_f64() * 10_000.0 / calls.max(1) as f64
}
