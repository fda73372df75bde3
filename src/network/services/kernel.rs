//! The tables of both families in the kernel.

use std::io;
use std::time::Duration;

use base::{Backoff, SystemRandom};
use sys::nft::{Batch, Family, Nft, NftError};

use super::rules::Rules;
use super::table::{Delta, Table};
use crate::config::NetworkConfig;
use crate::names;

/// The kernel's side of the plan.
pub(super) struct Kernel {
    /// A table for each family that Services have.
    rules: Vec<Rules>,
    /// Away while a commit is under way, and lost if that panicked.
    nft: Option<Nft>,
}

impl Kernel {
    /// Talks to the network namespace of the calling thread.
    pub(super) fn open(config: &NetworkConfig) -> io::Result<Kernel> {
        let rules = |family| {
            let name = names::services_table(&config.instance_id);
            Rules::new(name, family, config.pod_cidr.family(family == Family::Ip6))
        };
        Ok(Kernel {
            rules: config.service_families().into_iter().map(rules).collect(),
            nft: Some(Nft::open()?),
        })
    }

    /// Carries out what has changed; `table` is the state after it.
    pub(super) async fn change(&mut self, deltas: &[Delta], table: &Table) {
        let batches = self.rules.iter_mut().map(|rules| rules.change(deltas)).collect();
        if let Err(error) = self.commit(batches).await {
            tracing::warn!(%error, "the kernel's service table is not what we thought; writing it anew");
            self.replace(table).await;
        }
    }

    /// Writes everything anew, until it succeeds: without rules there are no Services.
    pub(super) async fn replace(&mut self, table: &Table) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            let all = table.all();
            let batches = self.rules.iter_mut().map(|rules| rules.replace(&all)).collect();
            match self.commit(batches).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "cannot write the service table"),
            }
            tokio::time::sleep(backoff.next(&SystemRandom)).await;
        }
    }

    /// Somebody may have flushed all rules: a firewall that was reloaded, say.
    /// And what nobody needs any more is left behind here.
    pub(super) async fn check(&mut self, table: &Table) {
        let wanted: Vec<(Family, String)> = self
            .rules
            .iter()
            .map(|rules| (rules.family(), rules.table().to_string()))
            .collect();
        let found = self
            .with(move |nft| {
                for (family, name) in wanted {
                    if !nft.tables(family)?.contains(&name) {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
            .await;
        if let Ok(false) = found {
            tracing::warn!("the kernel's service table has vanished; writing it anew");
            self.replace(table).await;
        } else if self.rules.iter().any(Rules::wasteful) {
            self.replace(table).await;
        }
    }

    async fn commit(&mut self, batches: Vec<Batch>) -> Result<(), NftError> {
        self.with(move |nft| batches.iter().try_for_each(|batch| nft.commit(batch)))
            .await
    }

    /// The kernel answers at once, but a whole table takes it a while: off
    /// the runtime's threads.
    async fn with<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Nft) -> Result<R, NftError> + Send + 'static,
    ) -> Result<R, NftError> {
        let mut nft = match self.nft.take() {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut nft);
            (nft, result)
        });
        let (nft, result) = done.await.map_err(io::Error::other)?;
        self.nft = Some(nft);
        result
    }
}
