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
use crate::pki::{Pki, fingerprint};

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
    },
    /// That of a front proxy, whose requests say in their headers whose they are.
    FrontProxy {
        /// When it ends, in seconds since 1970.
        ends: i64,
    },
}

/// Checks client certificates against the client CA, and against that of front proxies.
pub struct Certificates {
    clients: Arc<dyn ClientCertVerifier>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
    headers: RequestHeaders,
}

impl Certificates {
    /// Trusts the CAs of that PKI.
    pub fn of(pki: &Pki) -> Result<Self, rustls::Error> {
        let (clients, proxies) = (pki.client_ca.der().clone(), pki.front_proxy_ca.der().clone());
        Self::new(clients, proxies, RequestHeaders::default())
    }

    /// Trusts these CAs and no other; `headers` says which names the second one's clients must have.
    pub fn new(
        clients: CertificateDer<'static>,
        proxies: CertificateDer<'static>,
        headers: RequestHeaders,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            clients: verifier(clients)?,
            proxies: Some(verifier(proxies)?),
            headers,
        })
    }

    /// Trusts this CA, and no front proxies.
    pub fn of_clients(clients: CertificateDer<'static>) -> Result<Self, rustls::Error> {
        Ok(Self {
            clients: verifier(clients)?,
            proxies: None,
            headers: RequestHeaders::default(),
        })
    }

    /// What that chain (leaf first) proves at that time.
    pub fn check(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> CertificateUser {
        let Some((leaf, rest)) = chain.split_first() else {
            return CertificateUser::Nobody;
        };
        let seconds = Duration::from_secs(now.as_second().max(0).unsigned_abs());
        let time = UnixTime::since_unix_epoch(seconds);
        let refused = match self.clients.verify_client_cert(leaf, rest, time) {
            Ok(_) => return read(leaf).unwrap_or(CertificateUser::Unproven),
            Err(error) => error,
        };
        let proxies = self.proxies.as_ref();
        if proxies.is_some_and(|proxies| proxies.verify_client_cert(leaf, rest, time).is_ok()) {
            return self.proxy(leaf).unwrap_or(CertificateUser::Unproven);
        }
        tracing::debug!(error = %refused, "client certificate refused");
        CertificateUser::Unproven
    }

    fn proxy(&self, der: &CertificateDer<'_>) -> Option<CertificateUser> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let name = cert.subject().iter_common_name().next()?.as_str().ok()?;
        let ends = cert.validity().not_after.timestamp();
        self.headers
            .trusts(name)
            .then_some(CertificateUser::FrontProxy { ends })
    }

    /// Which headers a front proxy's requests have.
    pub fn headers(&self) -> &RequestHeaders {
        &self.headers
    }
}

fn verifier(ca: CertificateDer<'static>) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

fn read(der: &CertificateDer<'_>) -> Option<CertificateUser> {
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
        extra,
    };
    Some(CertificateUser::Known {
        user,
        ends: cert.validity().not_after.timestamp(),
    })
}
