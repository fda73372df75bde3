//! The store beside etcd: writes, reads, watches, recovery. Both stand behind the same part of etcd's API, which the
//! same client asks for the same things; ours, too, as a process of its own, with a front that does nothing else.
//!
//! `benches/run store` installs etcd, builds this optimised and runs it, in namespaces of its own, as root.

mod failover;
mod floor;
mod front;
mod grpc;
mod h2;
mod inside;
mod load;
mod pipes;
mod proto;
mod reads;
mod recovery;
mod servers;
mod value;
mod watches;
mod writes;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use kit::sandbox;

use writes::Effort;

#[derive(Parser)]
#[command(about = "Measures the store beside etcd; each part prints one table")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Measure and print.
    Measure(Measure),
    /// Serve a store (the measurement starts these).
    #[command(hide = true)]
    Front(front::Front),
    /// Write without a front (the measurement starts these).
    #[command(hide = true)]
    Inside(inside::Inside),
}

#[derive(clap::Args)]
struct Measure {
    /// etcd's programs, one for each version.
    #[arg(long)]
    etcd: Vec<PathBuf>,
    /// Length of a round in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds, in turns; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How often a leader is killed, and leadership handed over.
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// Keys in the store that recovers.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Do not count what writes bring to the device, which takes minutes.
    #[arg(long)]
    uncounted: bool,
    /// What to measure.
    #[arg(default_values_t = [Part::One, Part::Three, Part::Reads, Part::Watches, Part::Recovery, Part::Failover])]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Writes to one member.
    One,
    /// Writes to a group of three.
    Three,
    /// Reads of keys and lists.
    Reads,
    /// Events to many watchers.
    Watches,
    /// Start after a crash, and memory.
    Recovery,
    /// Pauses when leadership changes.
    Failover,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value()
            .map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

fn main() -> anyhow::Result<()> {
    let role = Arguments::parse().role;
    // One thread each for load and front: on two cores more of them only wake each other.
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    };
    match role {
        Role::Front(front) => runtime()?.block_on(front::serve(front)),
        Role::Inside(inside) => runtime()?.block_on(inside::write(inside)),
        Role::Measure(measure) => match sandbox::enter()? {
            Some(scratch) => runtime()?.block_on(measure.run(&scratch)),
            None => Ok(()),
        },
    }
}

impl Measure {
    async fn run(self, scratch: &std::path::Path) -> anyhow::Result<()> {
        let all = servers::contestants(&self.etcd)?;
        let effort = Effort {
            seconds: self.seconds,
            rounds: self.rounds,
            counted: !self.uncounted,
        };
        for part in &self.parts {
            match part {
                Part::One => writes::measure(&all, 1, scratch, effort).await?,
                Part::Three => writes::measure(&all, 3, scratch, effort).await?,
                Part::Reads => reads::measure(&all, scratch, effort).await?,
                Part::Watches => watches::measure(&all, scratch).await?,
                Part::Failover => failover::measure(&all, scratch, self.trials).await?,
                Part::Recovery => recovery::measure(&all, scratch, self.keys).await?,
            }
        }
        Ok(())
    }
}
