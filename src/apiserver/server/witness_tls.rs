//! What a witness shows others and whom it trusts, changed without a restart when the cluster changes its own.

use std::sync::{Arc, Mutex, PoisonError};

use base::Clock;
use tokio::sync::watch;

use crate::peers::PeerTls;
use crate::pki::PkiError;
use crate::pki::witness::{WitnessKeys, WitnessMaterial, WitnessTrust};
use crate::tls;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Kept {
    pub clock: Arc<dyn Clock>,
    pub keys: Arc<WitnessKeys>,
    pub peers: Arc<PeerTls>,
    pub tls: watch::Sender<Arc<rustls::ServerConfig>>,
    /// Held while files are written: two writers of one must not meet.
    pub writing: Arc<Mutex<()>>,
}

impl Kept {
    /// Takes up what the cluster has agreed on, and makes anew what was made with the keys before; the generation that
    /// it has then.
    pub fn take_up(&self, document: &WitnessTrust) -> Result<u64, PkiError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.take_up(document)?;
        // All of it, also if the keys are known already: the attempt before may have been cut short.
        let keys = self.keys.now();
        self.peers
            .renew(&keys.peer_ca, &keys.peer_roots, self.clock.now())?;
        self.tls.send_replace(Arc::new(for_clients(&keys)?));
        Ok(keys.generation)
    }
}

/// TLS for those who look at a witness.
pub(super) fn for_clients(keys: &WitnessMaterial) -> Result<rustls::ServerConfig, PkiError> {
    tls::server_config(&keys.client_roots, keys.serving.clone())
}
