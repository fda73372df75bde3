//! The secrets of a cluster in the form in which they are used.

use std::ops::Deref;

use jsonwebtoken::{DecodingKey, EncodingKey};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::trust::{Item, Secret, State, Trust};
use super::{Ca, JoinTokens, PkiError};

/// What a server proves itself with and whom it trusts, at one moment.
pub struct Material {
    /// The document that it was made of. A secret.
    pub trust: Trust,
    /// Signs the certificates of people, nodes and components.
    pub client_ca: Authority,
    /// Signs the certificates by which servers of one cluster know each other.
    pub peer_ca: Authority,
    /// Signs the serving certificate; what clients are told to trust.
    pub serving_ca: Authority,
    /// Signs the certificates of front proxies.
    pub front_proxy_ca: Authority,
    /// Sign the tokens of service accounts, the first one, or only verify them.
    pub accounts: Vec<AccountKey>,
    /// The tokens with which servers and agents join.
    pub join: JoinTokens,
}

impl Material {
    /// Made of that document.
    ///
    /// # Errors
    /// When a key or certificate in it makes no sense.
    pub(super) fn of(trust: Trust) -> Result<Self, PkiError> {
        let authority = |secret| Authority::of(&trust, secret);
        let mut keys: Vec<&Item> = trust.of(Secret::ServiceAccountKey).iter().collect();
        keys.sort_by_key(|item| item.state);
        Ok(Self {
            client_ca: authority(Secret::ClientCa)?,
            peer_ca: authority(Secret::PeerCa)?,
            serving_ca: authority(Secret::ServingCa)?,
            front_proxy_ca: authority(Secret::FrontProxyCa)?,
            accounts: keys
                .into_iter()
                .map(|item| AccountKey::of(&item.key))
                .collect::<Result<_, _>>()?,
            join: JoinTokens::of(&trust),
            trust,
        })
    }

    /// The authorities whose certificates prove a client or a front proxy.
    pub(super) fn signers(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.client_ca.roots().iter().chain(self.front_proxy_ca.roots())
    }

    /// How many steps the secrets have gone.
    pub fn generation(&self) -> u64 {
        self.trust.generation
    }
}

/// A certificate authority: what signs, and whatever else is trusted while another one takes its place.
pub struct Authority {
    signer: Ca,
    roots: Vec<CertificateDer<'static>>,
    vouched: Vec<CertificateDer<'static>>,
    bundle: String,
}

impl Deref for Authority {
    type Target = Ca;

    fn deref(&self) -> &Ca {
        &self.signer
    }
}

impl Authority {
    fn of(trust: &Trust, secret: Secret) -> Result<Self, PkiError> {
        let mut items: Vec<&Item> = trust.of(secret).iter().collect();
        items.sort_by_key(|item| item.state);
        let cas = items.iter().map(|item| Ca::of(&item.certificate, &item.key));
        let cas = cas.collect::<Result<Vec<Ca>, _>>()?;
        let roots = cas.iter().map(|ca| ca.der().clone()).collect();
        let mut all = cas.into_iter();
        let signer = all.next().ok_or_else(|| PkiError::Malformed {
            path: secret.name().into(),
            why: "there is none".to_owned(),
        })?;
        let states = items.iter().skip(1).map(|item| item.state);
        let retiring = all.zip(states).filter(|(_, state)| *state == State::Retiring);
        Ok(Self {
            vouched: retiring
                .map(|(old, _)| old.vouch_for(&signer))
                .collect::<Result<_, _>>()?,
            signer,
            roots,
            bundle: trust.bundle(secret),
        })
    }

    /// All that is trusted, the one that signs first.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The same as PEM.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What a server shows after its certificate: so also who trusts the old one alone can check it, and who joins and
    /// knows but a hash finds the authority.
    pub fn shown(&self) -> Vec<CertificateDer<'static>> {
        self.vouched.iter().chain(&self.roots).cloned().collect()
    }
}

/// A key of service accounts' tokens.
pub struct AccountKey {
    /// By which tokens name it.
    pub id: String,
    /// The public key's point, uncompressed.
    pub point: Vec<u8>,
    /// Signs.
    pub encoding: EncodingKey,
    /// Verifies.
    pub decoding: DecodingKey,
}

impl AccountKey {
    fn of(pem: &str) -> Result<Self, PkiError> {
        let malformed = |error: jsonwebtoken::errors::Error| PkiError::Malformed {
            path: "service-account.key".into(),
            why: error.to_string(),
        };
        let pair = KeyPair::from_pem(pem)?;
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info())),
            point: pair.der_bytes().to_vec(),
            encoding: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(malformed)?,
            decoding: DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).map_err(malformed)?,
        })
    }
}
