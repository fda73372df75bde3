//! `up`, `server`, `agent`: run a node until told to stop.

use std::io::Write;
use std::time::Instant;

use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};

use super::Run;
use crate::{Node, Role};

impl Run {
    /// Runs the node in a role; `given` is what the command line said of the verb.
    ///
    /// # Errors
    /// When it cannot start, or one of its parts failed later.
    pub(super) fn start(self, role: Role, given: &ArgMatches) -> anyhow::Result<()> {
        let began = Instant::now();
        take_precedence();
        let settings = match &self.config {
            Some(path) => self.settings.over_file(path, given)?,
            None => self.settings,
        };
        let config = settings.into_config(self.data_dir.data_dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        let result = runtime.block_on(async {
            let node = Node::start(config, role).await?;
            // Who reads it may have gone; the node goes on.
            let _ = writeln!(std::io::stdout(), "{}", ready_line(&node, role, began));
            serve(node).await
        });
        // Blocking reads of standard streams must not hold up the end.
        runtime.shutdown_background();
        result
    }
}

/// How many tasks a thread runs before it looks who has something to say. While there is enough to do, nobody is heard
/// in between; looking costs a microsecond, and one client's task a hundred.
const EVENT_INTERVAL: u32 = 4;
/// When memory runs out, the node goes after everything that it runs (as Kubernetes' own parts do).
const OOM_SCORE: i32 = -999;
/// When the processor is short, the node's threads come before its pods'.
const NICE: i32 = -5;

/// Asks for the node's place among the machine's processes, before it has
/// threads to inherit it. What it starts steps back by itself: shims at their
/// start, the threads of Wasm guests at theirs. An ordinary user is refused,
/// and a control plane alone does without.
fn take_precedence() {
    let asked = [
        ("oom_score_adj", sys::process::set_oom_score(OOM_SCORE)),
        ("nice", sys::process::set_nice(NICE)),
        ("open files", sys::process::raise_open_files().map(drop)),
    ];
    for (what, result) in asked {
        if let Err(error) = result {
            tracing::debug!(what, %error, "the kernel refused");
        }
    }
}

fn ready_line(node: &Node, role: Role, began: Instant) -> String {
    let ms = began.elapsed().as_millis();
    match role {
        Role::Agent => format!(
            "coracle agent is ready after {ms} ms: node {} has joined",
            node.name()
        ),
        _ if node.is_witness() => format!("coracle witness is ready after {ms} ms"),
        _ => format!(
            "coracle is ready after {ms} ms: export KUBECONFIG={} && kubectl get nodes",
            node.kubeconfig().display()
        ),
    }
}

/// Waits for a signal or a failure, then ends in order.
async fn serve(node: Node) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = node.ended() => failure,
    };
    node.shutdown().await;
    match failure {
        None => Ok(()),
        Some(why) => anyhow::bail!("stopped because a part of it failed: {why}"),
    }
}
