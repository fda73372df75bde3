//! `up`, `server`, `agent`: run a node until told to stop.

use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use super::{Run, Settings};
use crate::{Node, Role};

impl Run {
    /// Runs the node in the given role.
    ///
    /// # Errors
    /// When it cannot start, or one of its parts failed later.
    pub(super) fn start(self, role: Role) -> anyhow::Result<()> {
        let began = Instant::now();
        let file = match &self.config {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        let config = self.settings.or(file).into_config(self.data_dir.data_dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let node = Node::start(config, role).await?;
            println!("{}", ready_line(&node, role, began));
            serve(node).await
        });
        // Blocking reads of standard streams must not hold up the end.
        runtime.shutdown_background();
        result
    }
}

fn ready_line(node: &Node, role: Role, began: Instant) -> String {
    let ms = began.elapsed().as_millis();
    match role {
        Role::Agent => format!(
            "coracle agent is ready after {ms} ms: node {} has joined",
            node.name()
        ),
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
