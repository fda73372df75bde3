//! Client certificates: common name is the user, organisations are the groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::request::User;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::front_proxy::RequestHeaders;
use crate::pki::{Material, Signer, fingerprint, signer};

/// What the certificate of a connection says.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateUser {
    /// No certificate was shown.
    Nobody,
    /// One was shown that proves nothing.
    Unproven,
    /// One of ours.
    Known {
        /// Who it names.
        user: User,
        /// When it ends, in seconds since 1970: a connection may outlive it.
        ends: i64,
        /// Who signed it.
        by: Signer,
    },
    /// That of a front proxy, whose requests say in their headers whose they are.
    FrontProxy {
        /// When it ends, in seconds since 1970.
        ends: i64,
        /// Who signed it.
        by: Signer,
    },
}

/// An authority, and what knows the certificates that it signed.
struct Known {
    id: Signer,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Known {
    fn of(root: &CertificateDer<'static>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self {
            id: signer(root),
            verifier: verifier.map_err(|error| rustls::Error::General(error.to_string()))?,
        })
    }
}

/// Checks client certificates against the client CA, and against that of front proxies. Each may be several, while
/// one takes another's place.
pub struct Certificates {
    clients: Vec<Known>,
    proxies: Vec<Known>,
    headers: RequestHeaders,
}

impl Certificates {
    /// Trusts these CAs and no other; `headers` says which names the second ones' clients must have.
    ///
    /// # Errors
    /// When a certificate makes no sense.
    pub fn new(
        clients: &[CertificateDer<'static>],
        proxies: &[CertificateDer<'static>],
        headers: RequestHeaders,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            clients: clients.iter().map(Known::of).collect::<Result<_, _>>()?,
            proxies: proxies.iter().map(Known::of).collect::<Result<_, _>>()?,
            headers,
        })
    }

    /// Trusts the CAs of that moment.
    ///
    /// # Errors
    /// When a certificate makes no sense.
    pub fn of(keys: &Material) -> Result<Self, rustls::Error> {
        let (clients, proxies) = (keys.client_ca.roots(), keys.front_proxy_ca.roots());
        Self::new(clients, proxies, RequestHeaders::default())
    }

    /// Trusts these CAs, and no front proxies.
    ///
    /// # Errors
    /// When a certificate makes no sense.
    pub fn of_clients(clients: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        Self::new(clients, &[], RequestHeaders::default())
    }

    /// Whether who signed a certificate that was checked before is trusted still.
    pub fn trusts(&self, signer: &Signer) -> bool {
        self.clients
            .iter()
            .chain(&self.proxies)
            .any(|known| known.id == *signer)
    }

    /// What that chain (leaf first) proves at that time.
    pub fn check(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> CertificateUser {
        let Some((leaf, rest)) = chain.split_first() else {
            return CertificateUser::Nobody;
        };
        let seconds = Duration::from_secs(now.as_second().max(0).unsigned_abs());
        let time = UnixTime::since_unix_epoch(seconds);
        let signed = |known: &&Known| {
            let checked = known.verifier.verify_client_cert(leaf, rest, time);
            let refused = |error: &rustls::Error| tracing::debug!(%error, "client certificate refused");
            checked.inspect_err(refused).is_ok()
        };
        let user = if let Some(by) = self.clients.iter().find(signed) {
            read(leaf, by.id)
        } else if let Some(by) = self.proxies.iter().find(signed) {
            self.proxy(leaf, by.id)
        } else {
            None
        };
        user.unwrap_or(CertificateUser::Unproven)
    }

    fn proxy(&self, der: &CertificateDer<'_>, by: Signer) -> Option<CertificateUser> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let name = cert.subject().iter_common_name().next()?.as_str().ok()?;
        let ends = cert.validity().not_after.timestamp();
        self.headers
            .trusts(name)
            .then_some(CertificateUser::FrontProxy { ends, by })
    }

    /// Which headers a front proxy's requests have.
    pub fn headers(&self) -> &RequestHeaders {
        &self.headers
    }
}

fn read(der: &CertificateDer<'_>, by: Signer) -> Option<CertificateUser> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let name = cert
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?
        .to_owned();
    let groups = cert.subject().iter_organization().filter_map(|o| o.as_str().ok());
    let mut groups: Vec<String> = groups.map(str::to_owned).collect();
    groups.push(super::AUTHENTICATED.to_owned());
    let id = format!("X509SHA256={}", fingerprint(der));
    let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![id])]);
    let user = User {
        name,
        uid: String::new(),
        groups,
        extra: extra.into(),
    };
    Some(CertificateUser::Known {
        user,
        ends: cert.validity().not_after.timestamp(),
        by,
    })
}
