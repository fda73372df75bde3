//! What a server shows others and what it tells the administrator, kept good for as long as it runs: the serving
//! certificate, and the kubeconfig that leads to every server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{OnError, Tasks};
use client::kubeconfig::Other;
use store::{Status, Store};
use tokio::sync::watch;

use crate::config::ServerConfig;
use crate::peers::PeerTls;
use crate::pki::{Pki, PkiError, Serving, Trust};
use crate::tls;

/// How often the members are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After so long, by the wall clock, the certificates' dates are looked at, too: at once if it was put forward.
const DATES_EVERY_SECONDS: i64 = 600;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Credentials {
    pub config: ServerConfig,
    pub port: u16,
    pub pki: Arc<Pki>,
    pub serving: Arc<Serving>,
    pub peers: Arc<PeerTls>,
    pub tls: watch::Sender<Arc<rustls::ServerConfig>>,
    /// Held while files are written: two writers of one must not meet.
    pub writing: Arc<Mutex<()>>,
}

impl Credentials {
    /// Keeps them until `tasks` are cancelled.
    pub fn keep(self, store: Store, tasks: &Tasks) {
        tasks.spawn("keep credentials", OnError::Log, self.follow(store));
    }

    async fn follow(self, store: Store) {
        let mut last: Option<(Vec<Other>, i64)> = None;
        loop {
            let Ok(status) = store.status().await else { return };
            let (others, now) = (others(&status), self.config.clock.now().as_second());
            let fresh = |at: i64| (now - at).abs() < DATES_EVERY_SECONDS;
            if !last
                .as_ref()
                .is_some_and(|(known, at)| *known == others && fresh(*at))
            {
                let (this, told) = (self.clone(), others.clone());
                // Files are written and synced, which may take a slow disk a while.
                match tokio::task::spawn_blocking(move || this.renew(told)).await {
                    Ok(Ok(())) => last = Some((others, now)),
                    Ok(Err(error)) => tracing::warn!(%error, "certificates could not be looked after"),
                    Err(_) => return,
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes up a serving certificate that was put in the folder, and makes anew what ends soon or leads elsewhere.
    fn renew(&self, others: Vec<Other>) -> Result<(), PkiError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.config.clock.now();
        self.pki.renew(&self.serving, now)?;
        self.pki.write_admin(&self.config, self.port, Some(others), now)
    }

    /// Takes up the keys that the cluster has agreed on, and makes anew what was made with the ones before.
    pub fn take_up(&self, trust: &Trust) -> Result<(), PkiError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.pki.take_up(trust)?;
        // All of it, also if the keys are known already: the attempt before may have been cut short.
        let (now, keys) = (self.config.clock.now(), self.pki.now());
        self.peers.renew(&keys.peer_ca, keys.peer_ca.roots(), now)?;
        self.pki.renew(&self.serving, now)?;
        self.tls
            .send_replace(Arc::new(for_clients(&self.pki, &self.serving)?));
        self.pki.write_admin(&self.config, self.port, None, now)
    }
}

/// TLS for clients of a full server.
pub(super) fn for_clients(pki: &Pki, serving: &Arc<Serving>) -> Result<rustls::ServerConfig, PkiError> {
    let keys = pki.now();
    let trusted = [keys.client_ca.roots(), keys.front_proxy_ca.roots()].concat();
    tls::server_config(&trusted, serving.clone())
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
