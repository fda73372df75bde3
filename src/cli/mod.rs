//! The command line: what a person types.

mod backup;
mod down;
mod image;
mod member;
mod once;
mod run;
mod servers;
mod settings;
mod status;
mod store;
mod trust;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use settings::{DataDir, Settings};

const ABOUT: &str = "Kubernetes in one small binary, for containers and Wasm at the edge";

const EXAMPLES: &str = "\
Examples:
  Start a cluster of one machine, and look at it from another terminal:
    coracle up
    export KUBECONFIG=/var/lib/coracle/admin.kubeconfig
    kubectl get nodes

  Bring an image to a machine without a registry:
    coracle image import app.tar

  Stop everything and take all traces off the host (objects stay in the data folder):
    coracle down";

/// The whole command line.
#[derive(Parser)]
#[command(name = "coracle", version, about = ABOUT, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// How much to log: error, warn, info, debug, trace, or filters such as store=debug
    #[arg(
        long,
        global = true,
        env = "CORACLE_LOG",
        default_value = "warn",
        value_name = "LEVEL"
    )]
    log: String,

    /// Log one JSON object a line
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run server and agent in one process: a cluster of one machine
    #[command(after_help = "\
Examples:
  coracle up
  coracle up --data-dir /tmp/edge --listen 7443 --pod-cidr 10.200.0.0/16 --service-cidr 10.201.0.0/16

The configuration file has the flags as its keys:
  pod-cidr: 10.200.0.0/16
  listen: 7443")]
    Up(Run),

    /// Run the control plane alone
    #[command(after_help = "\
Examples:
  coracle server --advertise-address 10.0.0.5
  coracle server --join https://10.0.0.5:6443 --token-file server-token
Machines join it with `coracle agent` and the file agent-token of its data folder.
Further servers join with --join and the file server-token; once they have, they start without both.
Three servers go on when one is lost, five when two are: see `coracle member --help`.")]
    Server(Run),

    /// Run the node agent alone and join a server
    #[command(after_help = "\
Example:
  coracle agent --server https://10.0.0.5:6443 --token-file agent-token")]
    Agent(Run),

    /// Import, list and remove images
    Image(image::ImageArgs),

    /// List, remove and promote the servers of a cluster, hand leadership over
    Member(member::MemberArgs),

    /// Show how the servers of a cluster are: role, leader, term, lag, disk, alarms
    Status(status::StatusArgs),

    /// Compact the store by hand, and make its files smaller
    Store(store::StoreArgs),

    /// Replace what the cluster proves itself with: tokens, keys, authorities
    #[command(after_help = "\
A token that leaked:
  coracle trust rotate agent-token
An authority that ends, or whose key leaked; each step waits for nobody and says who is behind:
  coracle trust prepare authorities
  coracle trust activate authorities
  coracle trust retire authorities
The key of service accounts' tokens goes the same way: service-account-key.")]
    Trust(trust::TrustArgs),

    /// Write everything that the cluster is made of to one file, while it works
    #[command(after_help = "\
Example:
  coracle backup /mnt/usb/cluster-monday.backup
  coracle backup verify /mnt/usb/cluster-monday.backup
The file is read back and checked before it gets its name. It holds the cluster's keys and all its Secrets.")]
    Backup(backup::BackupArgs),

    /// Make a cluster of one server from a backup, in an empty data folder
    #[command(after_help = "\
Example:
  coracle restore /mnt/usb/cluster-monday.backup --data-dir /var/lib/coracle
  coracle up
Also when three servers were backed up: the other two join anew, with empty folders.")]
    Restore(backup::RestoreArgs),

    /// Stop the node and remove everything it made on this host
    #[command(after_help = "\
The data folder keeps the cluster's objects, so that `coracle up` brings everything back.
With --purge it goes too.")]
    Down(down::DownArgs),

    /// Print the version
    Version,
}

/// Arguments of the verbs that run a node.
#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    data_dir: DataDir,

    /// YAML file with settings; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let given = matches.subcommand().map_or(&matches, |(_, given)| given);
    let format = if cli.log_json {
        base::telemetry::LogFormat::Json
    } else {
        base::telemetry::LogFormat::Text
    };
    if let Err(error) = base::telemetry::init(&cli.log, format) {
        eprintln!("coracle: {error}");
        return ExitCode::from(2);
    }
    // A node goes on when who reads its first line has gone; what prints for a person ends with him.
    if !matches!(cli.verb, Verb::Up(_) | Verb::Server(_) | Verb::Agent(_))
        && let Err(error) = sys::process::end_on_broken_pipe()
    {
        tracing::debug!(%error, "the kernel refused");
    }
    let result = match cli.verb {
        Verb::Up(run) => run.start(crate::Role::Both, given),
        Verb::Server(run) => run.start(crate::Role::Server, given),
        Verb::Agent(run) => run.start(crate::Role::Agent, given),
        Verb::Image(args) => image::run(args),
        Verb::Member(args) => member::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Store(args) => store::run(args),
        Verb::Trust(args) => trust::run(args),
        Verb::Backup(args) => backup::backup(args),
        Verb::Restore(args) => backup::restore(args),
        Verb::Down(args) => down::run(args),
        Verb::Version => {
            println!("coracle {} (Kubernetes API v1.36)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coracle: {}", whole_story(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line; what an error has already said of its
/// cause is not said twice.
fn whole_story(error: &anyhow::Error) -> String {
    let mut story = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if story.is_empty() {
            story = cause;
        } else if !story.contains(&cause) {
            story = format!("{story}: {cause}");
        }
    }
    story
}
