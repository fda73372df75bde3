//! What a server shows others and what it tells the administrator, kept good for as long as it runs: the serving
//! certificate, and the kubeconfig that leads to every server.

use std::sync::Arc;
use std::time::Duration;

use base::{OnError, Tasks};
use client::kubeconfig::Other;
use store::{Status, Store};

use crate::config::ServerConfig;
use crate::pki::{Pki, PkiError, Serving};

/// How often the members are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// So many looks after which the certificates' dates are looked at, too.
const LOOKS: u32 = 120;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Credentials {
    pub config: ServerConfig,
    pub port: u16,
    pub pki: Arc<Pki>,
    pub serving: Arc<Serving>,
}

impl Credentials {
    /// Keeps them until `tasks` are cancelled.
    pub fn keep(self, store: Store, tasks: &Tasks) {
        tasks.spawn("keep credentials", OnError::Log, self.follow(store));
    }

    async fn follow(self, store: Store) {
        let mut last = None;
        for look in 1u32.. {
            let Ok(status) = store.status().await else { return };
            let others = others(&status);
            if last.as_ref() != Some(&others) || look % LOOKS == 0 {
                let (this, told) = (self.clone(), others.clone());
                // Files are written and synced, which may take a slow disk a while.
                match tokio::task::spawn_blocking(move || this.renew(told)).await {
                    Ok(Ok(())) => last = Some(others),
                    Ok(Err(error)) => tracing::warn!(%error, "certificates could not be looked after"),
                    Err(_) => return,
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes up a serving certificate that was put in the folder, and makes anew what ends soon or leads elsewhere.
    fn renew(&self, others: Vec<Other>) -> Result<(), PkiError> {
        let now = self.config.clock.now();
        self.pki.renew(&self.serving, now)?;
        self.pki.write_admin(&self.config, self.port, Some(others), now)
    }
}

/// The servers beside this one that answer requests, by name.
fn others(status: &Status) -> Vec<Other> {
    let full = status
        .peers
        .iter()
        .filter(|peer| peer.id != status.member && !peer.witness && !peer.address.is_empty());
    let mut others: Vec<Other> = full
        .map(|peer| Other {
            name: format!("coracle-{}", peer.name),
            server: format!("https://{}", peer.address),
        })
        .collect();
    others.sort_unstable_by(|a, b| (&a.name, &a.server).cmp(&(&b.name, &b.server)));
    others
}

#[cfg(test)]
mod tests {
    use store::Peer;

    use super::*;

    #[test]
    fn everybody_else_who_serves_is_told_of() {
        let peer = |id: u64, witness| Peer {
            id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:6443"),
            witness,
        };
        let status = Status {
            member: 2,
            peers: vec![peer(3, false), peer(2, false), peer(1, false), peer(4, true)],
            ..Status::default()
        };
        let others = others(&status);
        let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(names, ["coracle-n1", "coracle-n3"]);
        assert_eq!(others[0].server, "https://10.0.0.1:6443");
    }
}
