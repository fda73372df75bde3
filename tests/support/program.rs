//! The program under test, as scenarios start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools::coracle;

/// However full the disk of this machine is, scenarios are about something else, unless they say so.
pub const ROOMY: [&str; 2] = ["--eviction-hard", "memory.available<50Mi"];

/// Where it logs: beside its data.
pub fn log_file(data: &Path) -> PathBuf {
    data.with_extension("log")
}

/// `coracle VERB`, which logs to a file beside its data.
pub fn command(verb: &str, data: &Path, args: &[String]) -> Command {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_file(data))
        .expect("a log file");
    let level = std::env::var("CORACLE_LOG").unwrap_or_else(|_| "info".to_owned());
    let mut command = Command::new(coracle());
    command.arg(verb).arg("--data-dir").arg(data).args(args);
    if !args.iter().any(|arg| arg == ROOMY[0]) {
        command.args(ROOMY);
    }
    command
        .env("CORACLE_LOG", level)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command
}
