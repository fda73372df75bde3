//! What a witness has of the cluster's keys: what proves it to the other servers and to who looks at it, and what it
//! knows them by. As every voter it can sign for peers. It signs for no user and no service account, takes nobody
//! in, and serves under no names but its own: whoever steals it gets its log, and nothing that outlives its removal
//! and that of what was in the log.
//!
//! It gets them when it joins, and others when the cluster changes its own (`trust::witness`): then as one document,
//! so that a power cut leaves the old ones or the new ones, and never some of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::terms::CA_SECONDS;
use super::{Ca, PkiError, SHARED, Secret, Serving, Signers, files, receive, serving, signers};

/// The files that a witness gets from the server that lets it in.
const FILES: [&str; 6] = [
    "pki/client-ca.crt",
    "pki/peer-ca.crt",
    "pki/peer-ca.key",
    "pki/serving-ca.crt",
    "pki/serving.crt",
    "pki/serving.key",
];

/// Where the document is in a data folder, once the keys were changed; before, the files alone say the same.
const DOCUMENT: &str = "pki/witness.json";
const VERSION: u32 = 1;

/// Written beside the shared files by a server that has them all.
const ADMIN: &str = "admin.kubeconfig";

/// What a witness gets when the cluster's keys change. A secret: never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessTrust {
    version: u32,
    /// Which generation of the cluster's keys it is; 0 for what it got when it joined.
    pub generation: u64,
    /// The texts of [`FILES`].
    files: BTreeMap<String, String>,
    /// Hashes of serving authorities that were: old tokens name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<String>,
}

impl WitnessTrust {
    /// What a data folder holds.
    fn open(data_dir: &Path) -> Result<Self, PkiError> {
        if let Some(document) = Self::read(data_dir)? {
            return Ok(document);
        }
        let text = |name: &str| {
            let text = files::read(&data_dir.join(name))?.ok_or_else(|| lacks(data_dir, name))?;
            Ok((name.to_owned(), text))
        };
        Ok(Self {
            version: VERSION,
            generation: 0,
            files: FILES.into_iter().map(text).collect::<Result<_, PkiError>>()?,
            past: Vec::new(),
        })
    }

    /// The document in a data folder, if there is one.
    fn read(data_dir: &Path) -> Result<Option<Self>, PkiError> {
        let path = data_dir.join(DOCUMENT);
        let Some(text) = files::read(&path)? else {
            return Ok(None);
        };
        let document = Self::parse(text.as_bytes());
        document
            .map(Some)
            .map_err(|why| PkiError::Malformed { path, why })
    }

    /// Reads a document. What a witness must not have is left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if head.version > VERSION {
            return Err("it was written by a newer version: upgrade this witness".to_owned());
        }
        let mut document: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        document.files.retain(|name, _| FILES.contains(&name.as_str()));
        Ok(document)
    }

    /// The document as text. A secret.
    ///
    /// # Errors
    /// Never: it has nothing that JSON has not.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Writes it into a data folder: the document, then the files.
    fn write(&self, data_dir: &Path) -> Result<(), PkiError> {
        let path = data_dir.join(DOCUMENT);
        let text = self.text().map_err(|error| PkiError::Malformed {
            path: path.clone(),
            why: error.to_string(),
        })?;
        files::change_secret(&path, &text)?;
        for (name, text) in &self.files {
            files::change_secret(&data_dir.join(name), text)?;
        }
        Ok(())
    }

    fn text_of(&self, name: &str) -> Result<&str, PkiError> {
        let text = self.files.get(name).map(String::as_str);
        text.ok_or_else(|| lacks(Path::new(""), name))
    }

    /// The certificates in one of the files: one at least.
    fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let malformed = |why: String| PkiError::Malformed {
            path: name.into(),
            why,
        };
        let found = CertificateDer::pem_slice_iter(self.text_of(name)?.as_bytes());
        let found = found.collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| malformed(error.to_string()))?;
        match found.is_empty() {
            true => Err(malformed("there is no certificate in it".to_owned())),
            false => Ok(found),
        }
    }
}

fn lacks(data_dir: &Path, name: &str) -> PkiError {
    PkiError::Malformed {
        path: data_dir.join(name),
        why: "it is missing: join anew".to_owned(),
    }
}

/// A witness's keys in the form in which they are used.
pub struct WitnessMaterial {
    /// Which generation of the cluster's keys they are.
    pub generation: u64,
    /// Whose certificates prove administrators.
    pub client_roots: Vec<CertificateDer<'static>>,
    /// Signs the certificate by which the other servers know it.
    pub peer_ca: Ca,
    /// Who may sign those of the others.
    pub peer_roots: Vec<CertificateDer<'static>>,
    /// What it shows who looks at it.
    pub serving: Arc<Serving>,
}

impl WitnessMaterial {
    fn of(document: &WitnessTrust) -> Result<Self, PkiError> {
        let text = |name| document.text_of(name);
        let serving_roots = document.certificates("pki/serving-ca.crt")?;
        let (cert, key) = (text("pki/serving.crt")?, text("pki/serving.key")?);
        Ok(Self {
            generation: document.generation,
            client_roots: document.certificates("pki/client-ca.crt")?,
            peer_ca: Ca::of(text("pki/peer-ca.crt")?, text("pki/peer-ca.key")?)?,
            peer_roots: document.certificates("pki/peer-ca.crt")?,
            serving: Arc::new(Serving::given(cert, key, serving_roots)?),
        })
    }
}

/// The keys of a witness, which may change while it runs.
pub struct WitnessKeys {
    data_dir: PathBuf,
    now: watch::Sender<Arc<WitnessMaterial>>,
    signers: signers::Said,
}

impl WitnessKeys {
    /// Reads them, and removes what a folder of an earlier version has beside them.
    ///
    /// # Errors
    /// When a file is missing or makes no sense.
    pub fn open(data_dir: &Path) -> Result<Self, PkiError> {
        for name in SHARED.into_iter().chain([ADMIN]) {
            if !FILES.contains(&name) {
                files::remove(&data_dir.join(name))?;
            }
        }
        let document = WitnessTrust::open(data_dir)?;
        let material = WitnessMaterial::of(&document)?;
        if document.generation > 0 {
            // The attempt to take it up may have been cut short.
            document.write(data_dir)?;
        }
        Ok(Self {
            data_dir: data_dir.to_owned(),
            signers: signers::Said::new(&material.client_roots),
            now: watch::Sender::new(Arc::new(material)),
        })
    }

    /// As they are now.
    pub fn now(&self) -> Arc<WitnessMaterial> {
        self.now.borrow().clone()
    }

    /// The authorities whose certificates prove administrators.
    pub fn signers(&self) -> Signers {
        self.signers.follow()
    }

    /// Takes up what the cluster has agreed on, unless this or something newer is known already.
    ///
    /// # Errors
    /// When it makes no sense, or the disk fails: then nothing changes.
    pub fn take_up(&self, document: &WitnessTrust) -> Result<(), PkiError> {
        if document.generation <= self.now().generation {
            return Ok(());
        }
        let material = WitnessMaterial::of(document)?;
        document.write(&self.data_dir)?;
        let material = Arc::new(material);
        self.now.send_replace(material.clone());
        self.signers.change(&material.client_roots);
        Ok(())
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

/// The hashes of the serving authorities that were, as a witness's folder knows them.
pub(super) fn past(data_dir: &Path) -> Result<Vec<String>, PkiError> {
    let document = WitnessTrust::read(data_dir)?;
    Ok(document.map(|document| document.past).unwrap_or_default())
}

impl super::Pki {
    /// The keys of now for a witness of these names and addresses. Secrets. Its serving certificate is good for as
    /// long as the authority: there is nobody in it that could make another.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn for_witness(&self, names: &[String], now: Timestamp) -> Result<WitnessTrust, PkiError> {
        let keys = self.now();
        let peer_key = keys.trust.active(Secret::PeerCa).map(|item| item.key.clone());
        let issued = keys.serving_ca.issue(&serving::leaf(names), now, CA_SECONDS)?;
        // In the order of their names.
        let texts = [
            keys.client_ca.bundle().to_owned(),
            keys.peer_ca.bundle().to_owned(),
            peer_key.unwrap_or_default(),
            keys.serving_ca.bundle().to_owned(),
            issued.cert_pem,
            issued.key_pem,
        ];
        Ok(WitnessTrust {
            version: VERSION,
            generation: keys.generation(),
            files: FILES.map(str::to_owned).into_iter().zip(texts).collect(),
            past: keys.trust.past.clone(),
        })
    }

    /// The same as files by their path in the data folder, for one that joins.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn witness_files(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, PkiError> {
        Ok(self.for_witness(names, now)?.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::pki::{Pki, Step};

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
        let handed = pki.witness_files(&san, now).unwrap();
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
        let keys = WitnessKeys::open(witness.path()).unwrap().now();
        assert_eq!(names(witness.path()), kept);
        assert_eq!(keys.client_roots, pki.now().client_ca.roots());
        std::fs::remove_file(witness.path().join("pki/serving.key")).unwrap();
        assert!(WitnessKeys::open(witness.path()).is_err());
    }

    #[test]
    fn other_authorities_are_taken_up_step_by_step_and_no_more_keys_than_before() {
        let (server, witness) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Timestamp::now();
        let pki = Pki::open(&ServerConfig::new(server.path()), 6443, now).unwrap();
        let first = pki.now();
        let hash = crate::pki::fingerprint(first.serving_ca.der());
        take_over(witness.path(), &pki.witness_files(&[], now).unwrap()).unwrap();
        let keys = WitnessKeys::open(witness.path()).unwrap();
        let old = crate::pki::signer(first.client_ca.der());
        let secrets = [
            Secret::ClientCa,
            Secret::PeerCa,
            Secret::ServingCa,
            Secret::FrontProxyCa,
        ];
        let steps = [
            (Step::Prepare, 2, true),
            (Step::Activate, 2, true),
            (Step::Retire, 1, false),
        ];
        for (step, roots, trusted) in steps {
            pki.take_up(&pki.now().trust.after(step, &secrets, false, now).unwrap())
                .unwrap();
            let handed = pki.for_witness(&["tiny".to_owned()], now).unwrap();
            let handed = WitnessTrust::parse(handed.text().unwrap().as_bytes()).unwrap();
            for secret in Secret::ALL.into_iter().filter(|secret| *secret != Secret::PeerCa) {
                for item in pki.now().trust.of(secret) {
                    let text = handed.text().unwrap().replace("\\n", "\n");
                    assert!(!text.contains(item.key.trim()), "{}", secret.name());
                }
            }
            keys.take_up(&handed).unwrap();
            let now = keys.now();
            assert_eq!(now.generation, pki.now().generation());
            assert_eq!((now.client_roots.len(), now.peer_roots.len()), (roots, roots));
            assert_eq!(now.peer_ca.pem(), pki.now().peer_ca.pem());
            assert_eq!(keys.signers().borrow().contains(&old), trusted);
            // What is there after a start is the same, also after one that was cut short.
            std::fs::write(witness.path().join("pki/peer-ca.key"), "torn").unwrap();
            let again = WitnessKeys::open(witness.path()).unwrap().now();
            assert_eq!(again.generation, now.generation);
            assert_eq!(again.peer_ca.pem(), now.peer_ca.pem());
            assert!(
                std::fs::read_to_string(witness.path().join("pki/peer-ca.key"))
                    .unwrap()
                    .contains("PRIVATE")
            );
        }
        assert_ne!(keys.now().peer_ca.pem(), first.peer_ca.pem());
        let known = crate::pki::has_authority(witness.path(), &hash).unwrap();
        assert_eq!(known, Some(true), "it may be started as it was when it joined");
        let expected = [
            "client-ca.crt",
            "peer-ca.crt",
            "peer-ca.key",
            "pki",
            "serving-ca.crt",
            "serving.crt",
            "serving.key",
            "witness.json",
        ];
        assert_eq!(names(witness.path()), expected);
    }

    #[test]
    fn what_a_witness_must_not_have_or_cannot_use_is_left_out() {
        let (server, witness) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Timestamp::now();
        let pki = Pki::open(&ServerConfig::new(server.path()), 6443, now).unwrap();
        take_over(witness.path(), &pki.witness_files(&[], now).unwrap()).unwrap();
        let keys = WitnessKeys::open(witness.path()).unwrap();
        let mut handed = pki.for_witness(&[], now).unwrap();
        handed.generation = 4;
        handed
            .files
            .insert("pki/client-ca.key".to_owned(), "more".to_owned());
        handed.files.insert("../elsewhere".to_owned(), "more".to_owned());
        let read = WitnessTrust::parse(handed.text().unwrap().as_bytes()).unwrap();
        assert_eq!(read.files.len(), FILES.len());
        // The key of another certificate.
        let mut mixed = read.clone();
        let other = pki.for_witness(&[], now).unwrap().files["pki/serving.key"].clone();
        mixed.files.insert("pki/serving.key".to_owned(), other);
        assert!(keys.take_up(&mixed).is_err());
        let mut part = read;
        part.files.remove("pki/peer-ca.key");
        assert!(keys.take_up(&part).is_err());
        assert_eq!(keys.now().generation, 0);
        assert!(!witness.path().join(DOCUMENT).exists());
        let newer = handed
            .text()
            .unwrap()
            .replacen("\"version\":1", "\"version\":2", 1);
        assert!(
            WitnessTrust::parse(newer.as_bytes())
                .err()
                .unwrap()
                .contains("newer")
        );
    }

    #[test]
    fn what_was_not_handed_over_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let why = take_over(dir.path(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(why.contains("client-ca.crt") && why.contains("upgrade"), "{why}");
    }
}
