//! Running containers, kept on the processors that are theirs.

use std::sync::Arc;
use std::time::Duration;

use super::Cpus;
use crate::context::Context;
use crate::pods::spec;
use crate::runtime::oci::SCHEME;

/// How often running containers are looked at, besides whenever something was given (the kubelet's).
const LOOK: Duration = Duration::from_secs(10);

impl Cpus {
    /// Keeps running containers on what is theirs by now. Never ends.
    pub async fn follow(self, node: Arc<Context>) {
        let Some(inner) = self.inner.clone() else {
            return std::future::pending().await;
        };
        let mut changed = inner.changed.subscribe();
        loop {
            self.carry_out(&node).await;
            let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        }
    }

    async fn carry_out(&self, node: &Context) {
        for view in node.table.all() {
            for (name, container) in &view.containers {
                let id = container
                    .container_id
                    .as_deref()
                    .and_then(|id| id.split_once("://"));
                let (Some((SCHEME, id)), Some(cpus)) = (id, self.of(&view.pod, name)) else {
                    continue;
                };
                if let Err(error) = node.runtimes.oci.pin(spec::uid(&view.pod), id, &cpus).await {
                    // It may have ended meanwhile.
                    tracing::debug!(id, %error, "a container was not moved to its processors");
                }
            }
        }
    }
}
