//! What a cluster proves itself with and whom it trusts, as one document that all its full servers share.
//!
//! ```text
//!            prepare                activate                  retire
//! active ──────────────▶ active ──────────────▶ retiring ──────────────▶ (gone)
//!                        next                   active                   active
//! ```
//! Whatever is there is trusted; what is active signs, or is what is handed out. So each secret has another one in its
//! place step by step, and at every step everybody who has taken up this step or the one before is understood.
//! Every step is a generation of the whole document.

use std::collections::BTreeMap;
use std::path::Path;

use base::{Random, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ca::{self, Ca, fingerprint};
use super::{JoinRole, JoinToken, PkiError, files};

/// Where the document is in a data folder, once a secret was changed; before, the single files say the same.
pub(super) const FILE: &str = "pki/trust.json";
const VERSION: u32 = 1;
/// Digits of a fingerprint that are enough to tell secrets apart.
const ID_DIGITS: usize = 16;

/// One of the secrets of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// With which servers join.
    ServerToken,
    /// With which nodes join.
    AgentToken,
    /// Signs the tokens of service accounts.
    ServiceAccountKey,
    /// Signs the certificates of people, nodes and components.
    ClientCa,
    /// Signs the certificates by which servers know each other.
    PeerCa,
    /// Signs the serving certificates.
    ServingCa,
    /// Signs the certificates of front proxies.
    FrontProxyCa,
}

impl Secret {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ServerToken,
        Self::AgentToken,
        Self::ServiceAccountKey,
        Self::ClientCa,
        Self::PeerCa,
        Self::ServingCa,
        Self::FrontProxyCa,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerToken => "server-token",
            Self::AgentToken => "agent-token",
            Self::ServiceAccountKey => "service-account-key",
            Self::ClientCa => "client-ca",
            Self::PeerCa => "peer-ca",
            Self::ServingCa => "serving-ca",
            Self::FrontProxyCa => "front-proxy-ca",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|secret| secret.name() == name)
    }

    /// As what the holder of a token joins; `None` for what is no token.
    pub fn role(self) -> Option<JoinRole> {
        match self {
            Self::ServerToken => Some(JoinRole::Server),
            Self::AgentToken => Some(JoinRole::Agent),
            _ => None,
        }
    }

    /// Whether it is a certificate authority.
    pub fn is_authority(self) -> bool {
        matches!(
            self,
            Self::ClientCa | Self::PeerCa | Self::ServingCa | Self::FrontProxyCa
        )
    }
}

/// What a key is for at the moment. In the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It signs, or is handed out.
    Active,
    /// It is trusted and will be active.
    Next,
    /// It was active and is still trusted.
    Retiring,
}

/// One key of a secret. Secret itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is for.
    pub state: State,
    /// Since when, in seconds since 1970; 0 for what has been there from the beginning.
    pub since: i64,
    /// When it ends by itself, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The key as PEM (PKCS#8), or the secret of a token.
    pub key: String,
    /// The certificate of an authority, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate: String,
}

impl Item {
    /// A new key for that secret.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make(secret: Secret, now: Timestamp) -> Result<Self, PkiError> {
        let since = now.as_second();
        let (key, certificate) = if secret.role().is_some() {
            (SystemRandom.hex(64), String::new())
        } else if secret.is_authority() {
            // Of a name of its own: that is how certificates say whose they are.
            let made = Ca::make(&format!("coracle-{}@{since}", secret.name()), now)?;
            (made.key_pem, made.cert_pem)
        } else {
            (KeyPair::generate()?.serialize_pem(), String::new())
        };
        Ok(Self {
            state: State::Next,
            since,
            until: None,
            key,
            certificate,
        })
    }

    fn first(key: String, certificate: String) -> Self {
        Self {
            state: State::Active,
            since: 0,
            until: None,
            key,
            certificate,
        }
    }

    /// What tells it from others, and gives nothing away.
    pub fn id(&self) -> String {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let mut id = match (certificate, KeyPair::from_pem(&self.key)) {
            (Ok(der), _) => fingerprint(&der),
            (_, Ok(pair)) => fingerprint(&pair.subject_public_key_info()),
            _ => fingerprint(self.key.as_bytes()),
        };
        id.truncate(ID_DIGITS);
        id
    }

    /// When the certificate of an authority ends, in seconds since 1970.
    pub fn certificate_ends(&self) -> Option<i64> {
        ca::ends(&self.certificate)
    }

    /// Whether it is over at that time.
    pub fn is_over(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// See the module. A secret: never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    version: u32,
    /// Counts the steps; 0 before the first.
    pub generation: u64,
    /// Base64 of the key with which the document is sealed in the store: what others keep of the store, such as a
    /// witness its log, must not give it away.
    pub seal: String,
    pub(super) items: BTreeMap<Secret, Vec<Item>>,
    /// Hashes of serving authorities that were: old tokens name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<String>,
}

impl Trust {
    /// What a data folder holds; makes what is missing.
    ///
    /// # Errors
    /// When a file makes no sense or comes from a newer version, or the disk fails.
    pub(super) fn open(data_dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let path = data_dir.join(FILE);
        let Some(text) = files::read(&path)? else {
            return Self::of_files(data_dir, now);
        };
        Self::parse(text.as_bytes()).map_err(|why| PkiError::Malformed { path, why })
    }

    /// Reads what [`Trust::text`] wrote.
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
            return Err("it was written by a newer version: use a newer coracle".to_owned());
        }
        let trust: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let lacks = |secret: &Secret| trust.active(*secret).is_none();
        match Secret::ALL.iter().find(|secret| lacks(secret)) {
            Some(secret) => Err(format!("it has no {}", secret.name())),
            None => Ok(trust),
        }
    }

    /// The document as text. A secret.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the single files of a data folder say, those missing made.
    fn of_files(data_dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let dir = data_dir.join("pki");
        let mut items = BTreeMap::new();
        for secret in Secret::ALL.into_iter().filter(|secret| secret.is_authority()) {
            let name = secret.name();
            let ca = Ca::open(&dir, name, &format!("coracle-{name}"), now)?;
            let key = files::key(&dir.join(format!("{name}.key")))?;
            items.insert(secret, vec![Item::first(key, ca.pem().to_owned())]);
        }
        let key = files::key(&dir.join("service-account.key"))?;
        items.insert(Secret::ServiceAccountKey, vec![Item::first(key, String::new())]);
        let mut trust = Self {
            version: VERSION,
            generation: 0,
            seal: String::new(),
            items,
            past: Vec::new(),
        };
        trust.seal = trust.first_seal();
        let hash = trust.serving_hash();
        for secret in [Secret::ServerToken, Secret::AgentToken] {
            let Some(role) = secret.role() else { continue };
            let token = JoinToken::open(&data_dir.join(secret.name()), role, &hash)?;
            let item = Item::first(token.secret().to_owned(), String::new());
            trust.items.insert(secret, vec![item]);
        }
        Ok(trust)
    }

    /// Made of the keys that every full server has and nobody else, so that all of them have the same.
    fn first_seal(&self) -> String {
        let mut sum = Sha256::new_with_prefix(b"coracle trust 1");
        for secret in Secret::ALL.into_iter().filter(|secret| *secret != Secret::PeerCa) {
            for item in self.of(secret) {
                sum.update(item.key.trim().as_bytes());
            }
        }
        STANDARD.encode(sum.finalize())
    }

    /// The keys of a secret.
    pub fn of(&self, secret: Secret) -> &[Item] {
        self.items.get(&secret).map_or(&[], Vec::as_slice)
    }

    /// The one that signs.
    pub fn active(&self, secret: Secret) -> Option<&Item> {
        self.in_state(secret, State::Active)
    }

    /// The first key of a secret in that state.
    pub(super) fn in_state(&self, secret: Secret, state: State) -> Option<&Item> {
        self.of(secret).iter().find(|item| item.state == state)
    }

    /// The hash of the serving authority, by which joiners know whom to trust.
    pub(super) fn serving_hash(&self) -> String {
        self.hashes(State::Active).pop().unwrap_or_default()
    }

    /// The hashes of the serving authorities in that state.
    pub(super) fn hashes(&self, state: State) -> Vec<String> {
        let items = self.of(Secret::ServingCa).iter();
        let certificates = items
            .filter(|item| item.state == state)
            .filter_map(|item| CertificateDer::from_pem_slice(item.certificate.as_bytes()).ok());
        certificates.map(|der| fingerprint(&der)).collect()
    }

    /// Writes it into a data folder: the document, then the single files.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), PkiError> {
        files::write_secret(&data_dir.join(FILE), self.text().as_bytes())?;
        let hash = self.serving_hash();
        for secret in Secret::ALL {
            let Some(active) = self.active(secret) else {
                continue;
            };
            let name = secret.name();
            if let Some(role) = secret.role() {
                let token = JoinToken::new(&hash, role, &active.key);
                files::change_secret(&data_dir.join(name), &format!("{}\n", token.text()))?;
            } else if secret.is_authority() {
                let dir = data_dir.join("pki");
                files::change_secret(&dir.join(format!("{name}.key")), &active.key)?;
                files::change_public(&dir.join(format!("{name}.crt")), &self.bundle(secret))?;
            } else {
                files::change_secret(&data_dir.join("pki/service-account.key"), &active.key)?;
            }
        }
        Ok(())
    }

    /// PEM of the certificates of an authority that are trusted, the one that signs first.
    pub fn bundle(&self, secret: Secret) -> String {
        let mut items: Vec<&Item> = self.of(secret).iter().collect();
        items.sort_by_key(|item| item.state);
        items.iter().map(|item| item.certificate.as_str()).collect()
    }
}
