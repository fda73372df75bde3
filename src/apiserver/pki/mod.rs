//! The cluster's keys and certificates, in `<data-dir>/pki`.
//!
//! Clients, peers, the serving certificate and front proxies each have a CA of
//! their own, so that what one signs proves nothing to the others. All keys are
//! ECDSA P-256: made in microseconds, so that the first start is quick.

mod admin;
mod ca;
mod csr;
mod files;
mod join;
mod serving;
pub mod witness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

pub use ca::{Ca, Issued, Leaf};
pub use csr::{
    CsrRefusal, CsrSpec, SIGNER_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY,
};
pub use join::{JoinRole, JoinToken, JoinTokens};
pub use serving::Serving;

use crate::config::ServerConfig;

const DAY: i64 = 86_400;
/// Certificates for people, nodes and serving live this long.
pub(crate) const LEAF_SECONDS: i64 = 365 * DAY;
/// What ends sooner than this is made anew when the server starts.
const RENEW_SECONDS: i64 = 90 * DAY;

/// CAs outlive the machines they run on.
const CA_SECONDS: i64 = 3650 * DAY;

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
    receive(data_dir, &SHARED, handed)
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

/// Why keys or certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{path}: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A key or certificate could not be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS will not take a certificate or key.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The cluster's keys and certificates.
pub struct Pki {
    dir: PathBuf,
    /// Signs the certificates of people, nodes and components.
    pub client_ca: Ca,
    /// Signs the certificates by which servers of one cluster know each other.
    pub peer_ca: Ca,
    /// Signs the serving certificate; what clients are told to trust.
    pub serving_ca: Ca,
    /// Signs the certificates of front proxies.
    pub front_proxy_ca: Ca,
    /// PEM (PKCS#8) of the key that signs service-account tokens. A secret.
    pub(crate) service_account_key: String,
    /// The tokens with which servers and agents join.
    pub join: JoinTokens,
}

impl Pki {
    /// Reads the keys and certificates below `config.data_dir`, makes those that are missing,
    /// and writes `admin.kubeconfig`, `server-token` and `agent-token`.
    pub fn open(config: &ServerConfig, port: u16, now: Timestamp) -> Result<Self, PkiError> {
        let dir = config.data_dir.join("pki");
        files::private_dir(&dir)?;
        let ca = |name: &str, subject: &str| Ca::open(&dir, name, subject, now);
        let serving_ca = ca("serving-ca", "coracle-serving-ca")?;
        let join = JoinTokens::open(&config.data_dir, &fingerprint(serving_ca.der()))?;
        let pki = Self {
            client_ca: ca("client-ca", "coracle-client-ca")?,
            peer_ca: ca("peer-ca", "coracle-peer-ca")?,
            front_proxy_ca: ca("front-proxy-ca", "coracle-front-proxy-ca")?,
            serving_ca,
            service_account_key: files::key(&dir.join("service-account.key"))?,
            join,
            dir,
        };
        pki.write_admin(config, port, None, now)?;
        Ok(pki)
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
        SHARED.iter().map(read).collect()
    }

    /// A certificate and key for a client of that name and those groups.
    pub fn client(&self, name: &str, groups: &[&str], now: Timestamp) -> Result<Issued, PkiError> {
        self.client_ca
            .issue(&Leaf::client(name, groups), now, LEAF_SECONDS)
    }

    /// The certificate and key with which this server passes requests on to those that extend the API.
    pub fn front_proxy(&self, now: Timestamp) -> Result<Issued, PkiError> {
        let leaf = Leaf::client(crate::authn::front_proxy::CLIENT_NAME, &[]);
        self.front_proxy_ca.issue(&leaf, now, LEAF_SECONDS)
    }
}

/// [`fingerprint`] of the certificate in a PEM file.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn fingerprint_of_file(path: &Path) -> Result<String, PkiError> {
    let text = std::fs::read_to_string(path).map_err(files::io(path))?;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes());
    let malformed = |error: rustls::pki_types::pem::Error| PkiError::Malformed {
        path: path.to_owned(),
        why: error.to_string(),
    };
    Ok(fingerprint(&certificate.map_err(malformed)?))
}

/// Hexadecimal SHA-256 of a certificate.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
        assert_eq!(first.serving_ca.pem(), second.serving_ca.pem());
        assert_eq!(first.service_account_key, second.service_account_key);
        let same = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
        assert_eq!(kubeconfig, same);
        assert_ne!(first.client_ca.pem(), first.peer_ca.pem());
    }
}
