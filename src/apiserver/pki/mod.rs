//! The cluster's keys and certificates, in `<data-dir>/pki`.
//!
//! Clients, peers, the serving certificate and front proxies each have a CA of
//! their own, so that what one signs proves nothing to the others. All keys are
//! ECDSA P-256: made in microseconds, so that the first start is quick.

mod admin;
mod authorities;
mod ca;
mod csr;
mod endings;
mod error;
mod files;
mod join;
mod join_tokens;
mod material;
mod serving;
mod signers;
mod steps;
mod subject;
mod terms;
mod trust;
pub mod witness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

pub use authorities::has_authority;
pub use ca::{Ca, Issued, Leaf, fingerprint};
pub use csr::{
    CsrRefusal, CsrSpec, SIGNER_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY,
};
pub use endings::Ending;
pub use error::PkiError;
pub use join::{JoinRole, JoinToken};
pub use join_tokens::JoinTokens;
pub use material::{AccountKey, Authority, Material};
pub use serving::Serving;
pub use signers::{Signer, Signers, signer};
pub use steps::{Step, StepError};
pub(crate) use terms::LEAF_SECONDS;
pub use trust::{Item, Secret, State, Trust};

use crate::config::ServerConfig;

/// The files that all servers of a cluster share.
const SHARED: [&str; 11] = [
    "pki/client-ca.crt",
    "pki/client-ca.key",
    "pki/peer-ca.crt",
    "pki/peer-ca.key",
    "pki/serving-ca.crt",
    "pki/serving-ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/service-account.key",
    "server-token",
    "agent-token",
];

/// Puts the files that another server of the cluster handed over into a data folder.
///
/// # Errors
/// When one is missing, or the disk fails.
pub fn take_over(data_dir: &Path, handed: &BTreeMap<String, String>) -> Result<(), PkiError> {
    receive(data_dir, &SHARED, handed)?;
    match handed.get(trust::FILE) {
        Some(text) => files::write_secret(&data_dir.join(trust::FILE), text.as_bytes()),
        None => Ok(()),
    }
}

/// Writes the files of these names into a data folder.
fn receive(data_dir: &Path, names: &[&str], handed: &BTreeMap<String, String>) -> Result<(), PkiError> {
    files::private_dir(&data_dir.join("pki"))?;
    for name in names {
        let path = data_dir.join(name);
        let Some(text) = handed.get(*name) else {
            let why = "the other server did not hand it over: upgrade that one if it is older".to_owned();
            return Err(PkiError::Malformed { path, why });
        };
        files::write_secret(&path, text.as_bytes())?;
    }
    Ok(())
}

/// The first of the shared files that a data folder lacks.
pub fn missing(data_dir: &Path) -> Option<&'static str> {
    SHARED.into_iter().find(|name| !data_dir.join(name).exists())
}

/// The first of the shared files that is not among those handed over, as in a backup.
pub fn missing_of(handed: &BTreeMap<String, String>) -> Option<&'static str> {
    SHARED.into_iter().find(|name| !handed.contains_key(*name))
}

/// The cluster's keys and certificates, which may change while the server runs.
pub struct Pki {
    dir: PathBuf,
    data_dir: PathBuf,
    now: watch::Sender<Arc<Material>>,
    signers: signers::Said,
    /// When the certificates end that this server has made for itself, by what they are for.
    // A std mutex: nothing awaits while it is held.
    leaves: Mutex<BTreeMap<&'static str, i64>>,
}

impl Pki {
    /// Reads the keys and certificates below `config.data_dir`, makes those that are missing,
    /// and writes `admin.kubeconfig`, `server-token` and `agent-token`.
    pub fn open(config: &ServerConfig, port: u16, now: Timestamp) -> Result<Self, PkiError> {
        let dir = config.data_dir.join("pki");
        files::private_dir(&dir)?;
        let material = Material::of(Trust::open(&config.data_dir, now)?)?;
        let pki = Self {
            dir,
            data_dir: config.data_dir.clone(),
            signers: signers::Said::new(material.signers()),
            now: watch::Sender::new(Arc::new(material)),
            leaves: Mutex::default(),
        };
        pki.write_admin(config, port, None, now)?;
        Ok(pki)
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Material> {
        self.now.borrow().clone()
    }

    fn leaves(&self) -> MutexGuard<'_, BTreeMap<&'static str, i64>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers when a certificate ends that this server has made for itself.
    fn note(&self, name: &'static str, cert_pem: &str) {
        self.leaves().insert(name, ca::ends(cert_pem).unwrap_or_default());
    }

    /// As they are now and will be.
    pub fn changes(&self) -> watch::Receiver<Arc<Material>> {
        self.now.subscribe()
    }

    /// The authorities whose certificates prove a client or a front proxy.
    pub fn signers(&self) -> Signers {
        self.signers.follow()
    }

    /// Takes up what the cluster has agreed on, unless this or something newer is known already. Returns whether it
    /// was new.
    ///
    /// # Errors
    /// When it makes no sense, or the disk fails: then nothing changes.
    pub fn take_up(&self, trust: &Trust) -> Result<bool, PkiError> {
        if trust.generation <= self.now().generation() {
            return Ok(false);
        }
        let material = Material::of(trust.clone())?;
        trust.write(&self.data_dir)?;
        let material = Arc::new(material);
        self.now.send_replace(material.clone());
        self.signers.change(material.signers());
        Ok(true)
    }

    /// The folder with the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that all servers of a cluster share, by their path in the data folder. Secrets.
    pub fn shared_files(&self, data_dir: &Path) -> Result<BTreeMap<String, String>, PkiError> {
        let read = |name: &&str| {
            let path = data_dir.join(name);
            let text = std::fs::read_to_string(&path).map_err(files::io(&path))?;
            Ok(((*name).to_owned(), text))
        };
        let agreed = trust::FILE;
        let also = data_dir.join(agreed).exists().then_some(&agreed);
        SHARED.iter().chain(also).map(read).collect()
    }

    /// A certificate and key for a client of that name and those groups.
    pub fn client(&self, name: &str, groups: &[&str], now: Timestamp) -> Result<Issued, PkiError> {
        self.now()
            .client_ca
            .issue(&Leaf::client(name, groups), now, LEAF_SECONDS)
    }

    /// The certificate and key with which this server passes requests on to those that extend the API.
    pub fn front_proxy(&self, now: Timestamp) -> Result<Issued, PkiError> {
        let leaf = Leaf::client(crate::authn::front_proxy::CLIENT_NAME, &[]);
        self.now().front_proxy_ca.issue(&leaf, now, LEAF_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig::new(dir.path());
        let now = Timestamp::now();
        let first = Pki::open(&config, 6443, now).unwrap();
        for name in [
            "admin.kubeconfig",
            "server-token",
            "agent-token",
            "pki/client-ca.key",
        ] {
            let mode = std::fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let kubeconfig = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
        assert!(kubeconfig.contains("https://127.0.0.1:6443"), "{kubeconfig}");
        let second = Pki::open(&config, 6443, now).unwrap();
        let (one, two) = (first.now(), second.now());
        assert!(one.trust == two.trust);
        let same = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
        assert_eq!(kubeconfig, same);
        assert_ne!(one.client_ca.pem(), one.peer_ca.pem());
    }

    #[test]
    fn what_is_agreed_on_is_taken_up_once_and_kept() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (config, now) = (ServerConfig::new(dir.path()), Timestamp::now());
        let pki = Pki::open(&config, 6443, now).unwrap();
        let old = pki.now();
        assert!(!pki.take_up(&old.trust).unwrap());
        let secrets = [Secret::ServingCa, Secret::ServiceAccountKey];
        let prepared = old.trust.after(Step::Prepare, &secrets, false, now).unwrap();
        assert!(pki.take_up(&prepared).unwrap());
        assert_eq!(
            pki.now().serving_ca.pem(),
            old.serving_ca.pem(),
            "it does not sign yet"
        );
        assert_eq!(pki.now().serving_ca.roots().len(), 2);
        assert_eq!(pki.now().accounts.len(), 2);
        assert_eq!(pki.now().accounts[0].id, old.accounts[0].id);
        let later = now + jiff::SignedDuration::from_secs(1);
        let active = prepared.after(Step::Activate, &secrets, false, later).unwrap();
        assert!(pki.take_up(&active).unwrap() && !pki.take_up(&prepared).unwrap());
        let rotated = active.after(Step::Rotate { grace: 0 }, &[Secret::ServerToken], false, later);
        let rotated = rotated.unwrap();
        pki.take_up(&rotated).unwrap();

        // The same after a start, and in the folder of a server that joins.
        let again = Pki::open(&config, 6443, now).unwrap();
        assert!(again.now().trust == rotated);
        let token = std::fs::read_to_string(dir.path().join("server-token")).unwrap();
        let known = again.now().join.token(JoinRole::Server).unwrap().text();
        assert_eq!(token.trim(), known);
        let handed = again.shared_files(dir.path()).unwrap();
        take_over(other.path(), &handed).unwrap();
        let joined = Pki::open(&ServerConfig::new(other.path()), 6443, now).unwrap();
        assert!(joined.now().trust == rotated);
        // Who knows the single files only gets what signs.
        let alone = Ca::of(&handed["pki/serving-ca.crt"], &handed["pki/serving-ca.key"]).unwrap();
        assert_eq!(alone.pem(), again.now().serving_ca.pem());
        let hash = fingerprint(old.serving_ca.der());
        assert_eq!(has_authority(dir.path(), &hash).unwrap(), Some(true));
        assert_eq!(has_authority(dir.path(), &"0".repeat(64)).unwrap(), Some(false));
    }
}
