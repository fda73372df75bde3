//! What a witness has of the cluster's keys: what proves it to the other servers and to who looks at it, and what it
//! knows them by. As every voter it can sign for peers. It signs for no user and no service account, takes nobody
//! in, and serves under no names but its own: whoever steals it gets its log, and nothing that outlives its removal
//! and that of what was in the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{CA_SECONDS, Ca, PkiError, SHARED, Serving, files, receive, serving};

/// The files that a witness gets from the server that lets it in.
pub(super) const FILES: [&str; 6] = [
    "pki/client-ca.crt",
    "pki/peer-ca.crt",
    "pki/peer-ca.key",
    "pki/serving-ca.crt",
    "pki/serving.crt",
    "pki/serving.key",
];

/// Written beside the shared files by a server that has them all.
const ADMIN: &str = "admin.kubeconfig";

/// See the module.
pub struct WitnessKeys {
    /// Whose certificates prove administrators.
    pub client_ca: CertificateDer<'static>,
    /// Signs the certificate by which the other servers know it.
    pub peer_ca: Ca,
    /// What it shows who looks at it.
    pub serving: Arc<Serving>,
}

impl WitnessKeys {
    /// Reads them, and removes what a folder of an earlier version has beside them.
    ///
    /// # Errors
    /// When a file is missing or makes no sense.
    pub fn open(data_dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let dir = data_dir.join("pki");
        for name in SHARED.into_iter().chain([ADMIN]) {
            if !FILES.contains(&name) {
                files::remove(&data_dir.join(name))?;
            }
        }
        let serving_ca = certificate(&dir.join("serving-ca.crt"))?;
        Ok(Self {
            client_ca: certificate(&dir.join("client-ca.crt"))?,
            peer_ca: Ca::open(&dir, "peer-ca", "coracle-peer-ca", now)?,
            serving: Arc::new(Serving::kept(&dir, &serving_ca)?),
        })
    }
}

/// Puts what a witness gets into its data folder, and nothing else that may have been handed over with it.
///
/// # Errors
/// When something is missing, or the disk fails.
pub fn take_over(data_dir: &Path, handed: &BTreeMap<String, String>) -> Result<(), PkiError> {
    receive(data_dir, &FILES, handed)
}

/// The first of its files that a witness's folder lacks.
pub fn missing(data_dir: &Path) -> Option<&'static str> {
    FILES.into_iter().find(|name| !data_dir.join(name).exists())
}

impl super::Pki {
    /// The files for a witness of these names and addresses, by their path in the data folder. Secrets. Its serving
    /// certificate is good for as long as the authority: there is nobody in it that could make another.
    ///
    /// # Errors
    /// When one cannot be read or made.
    pub fn witness_files(
        &self,
        data_dir: &Path,
        names: &[String],
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, PkiError> {
        let mut handed = self.shared_files(data_dir)?;
        handed.retain(|name, _| FILES.contains(&name.as_str()));
        let issued = self
            .now()
            .serving_ca
            .issue(&serving::leaf(names), now, CA_SECONDS)?;
        handed.insert("pki/serving.crt".to_owned(), issued.cert_pem);
        handed.insert("pki/serving.key".to_owned(), issued.key_pem);
        Ok(handed)
    }
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    let malformed = |why: String| PkiError::Malformed {
        path: path.to_owned(),
        why,
    };
    let pem = files::read(path)?.ok_or_else(|| malformed("it is missing: join anew".to_owned()))?;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::pki::Pki;

    fn names(folder: &Path) -> Vec<String> {
        let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries(folder)
            .chain(entries(&folder.join("pki")))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_witness_gets_what_a_peer_needs_and_keeps_no_more() {
        let (server, witness) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Timestamp::now();
        let pki = Pki::open(&ServerConfig::new(server.path()), 6443, now).unwrap();
        let san = ["tiny".to_owned(), "192.0.2.7".to_owned()];
        let handed = pki.witness_files(server.path(), &san, now).unwrap();
        // As by a server that hands over everything.
        let mut more = pki.shared_files(server.path()).unwrap();
        more.extend(handed);
        assert!(missing(witness.path()).is_some());
        take_over(witness.path(), &more).unwrap();
        assert_eq!(missing(witness.path()), None);
        let kept = [
            "client-ca.crt",
            "peer-ca.crt",
            "peer-ca.key",
            "pki",
            "serving-ca.crt",
            "serving.crt",
            "serving.key",
        ];
        assert_eq!(names(witness.path()), kept);

        // A folder of an earlier version.
        for (name, text) in pki.shared_files(server.path()).unwrap() {
            std::fs::write(witness.path().join(name), text).unwrap();
        }
        std::fs::copy(server.path().join(ADMIN), witness.path().join(ADMIN)).unwrap();
        let keys = WitnessKeys::open(witness.path(), now).unwrap();
        assert_eq!(names(witness.path()), kept);
        assert_eq!(keys.client_ca, *pki.now().client_ca.der());
        std::fs::remove_file(witness.path().join("pki/serving.key")).unwrap();
        assert!(WitnessKeys::open(witness.path(), now).is_err());
    }

    #[test]
    fn what_was_not_handed_over_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let why = take_over(dir.path(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(why.contains("client-ca.crt") && why.contains("upgrade"), "{why}");
    }
}
