//! Coracle beside its peers: every subcommand answers one question with one
//! table, ours and the peer's on the same work in the same run, interleaved.
//!
//! `benches/run` installs the peers, builds the lean binary and asks all of
//! them; `benches/run QUESTION` asks one. Each runs in mount, network and
//! process namespaces of its own, as root, and leaves nothing behind.

mod api;
mod api_watch;
mod backend;
mod bare;
mod containers;
mod density;
mod exec;
mod fair;
mod idle;
mod load;
mod maps;
mod node;
mod pods;
mod service_table;
mod services;
mod startup;
mod unpack;
mod wasm_http;
mod within;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use kit::sandbox;

#[derive(Parser)]
#[command(about = "Measures Coracle beside its peers; each question prints one table")]
struct Arguments {
    /// The binary to measure.
    #[arg(long, global = true, default_value = "bin/dist/coracle")]
    bin: PathBuf,
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// How long from exec to a served API, and how big is the binary?
    Startup {
        /// Starts on empty folders.
        #[arg(default_value_t = 7)]
        runs: usize,
    },
    /// What does an idle node cost: memory, CPU, bytes to the disk and to the network?
    Idle {
        /// How long it is looked at.
        #[arg(default_value_t = 300)]
        seconds: u64,
    },
    /// What do the API's verbs cost, how late are events, what do objects and kinds take of memory?
    Api {
        /// How many objects.
        #[arg(default_value_t = 5000)]
        objects: usize,
    },
    /// What does one client wait beside a hostile one at full speed?
    Fair {
        /// Length of each of the rounds.
        #[arg(default_value_t = 10)]
        seconds: u64,
    },
    /// How long from POST of a pod to its first answered byte?
    Pods {
        /// Pods of each sort, one after the other.
        #[arg(default_value_t = 200)]
        count: usize,
    },
    /// Creating, starting and deleting a container, beside crun and runc.
    Containers {
        /// Containers of each runtime.
        #[arg(default_value_t = 100)]
        count: usize,
    },
    /// Running something in a container that is there, beside crun and runc; what a pod that waits takes of memory.
    Exec {
        /// Times each.
        #[arg(default_value_t = 200)]
        count: usize,
    },
    /// Requests through a Service, straight to the pods, and through HAProxy.
    Services {
        /// Who balances the Service: kernel or userspace.
        #[arg(long, default_value = "kernel")]
        proxy: String,
        /// Length of each of the rounds.
        #[arg(default_value_t = 5)]
        seconds: u64,
    },
    /// A node's table of many Services: loading it, and changing one endpoint.
    Table {
        /// How many Services.
        #[arg(default_value_t = 5000)]
        services: u32,
        /// How often an endpoint changes.
        #[arg(default_value_t = 401)]
        changes: u32,
    },
    /// Wasm HTTP beside native hyper and `wasmtime serve`.
    Wasm {
        /// Length of each of the rounds.
        #[arg(default_value_t = 5)]
        seconds: u64,
    },
    /// A request of one Wasm component to another, within a pod and between two.
    Within {
        /// Length of each of the rounds.
        #[arg(default_value_t = 5)]
        seconds: u64,
    },
    /// Thousands of Wasm pods: time, memory, idle CPU.
    Density {
        /// How many pods, once for each number.
        #[arg(default_values_t = [1000, 10_000])]
        pods: Vec<usize>,
    },
    /// Unpacking an image, beside umoci.
    Unpack {
        /// Times each.
        #[arg(default_value_t = 7)]
        runs: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let bin = std::fs::canonicalize(&arguments.bin).map_err(|error| {
        anyhow::anyhow!("{}: {error}; build it with 'make dist'", arguments.bin.display())
    })?;
    let Some(scratch) = sandbox::enter()? else {
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.question {
        Question::Startup { runs } => startup::measure(&bin, &scratch, runs),
        Question::Idle { seconds } => runtime.block_on(idle::measure(&bin, &scratch, seconds)),
        Question::Api { objects } => runtime.block_on(api::measure(&bin, &scratch, objects)),
        Question::Fair { seconds } => runtime.block_on(fair::measure(&bin, &scratch, seconds)),
        Question::Pods { count } => runtime.block_on(pods::measure(&bin, &scratch, count)),
        Question::Containers { count } => runtime.block_on(containers::measure(&bin, &scratch, count)),
        Question::Exec { count } => runtime.block_on(exec::measure(&bin, &scratch, count)),
        Question::Services { proxy, seconds } => {
            runtime.block_on(services::measure(&bin, &scratch, &proxy, seconds))
        }
        Question::Table { services, changes } => {
            runtime.block_on(service_table::measure(&scratch, services, changes))
        }
        Question::Wasm { seconds } => runtime.block_on(wasm_http::measure(&bin, &scratch, seconds)),
        Question::Within { seconds } => runtime.block_on(within::measure(&bin, &scratch, seconds)),
        Question::Density { pods } => runtime.block_on(density::measure(&bin, &scratch, &pods)),
        Question::Unpack { runs } => unpack::measure(&bin, &scratch, runs),
    }
}
