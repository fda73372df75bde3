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

use crate::pki::fingerprint;

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
}

/// Checks client certificates against the client CA.
pub struct Certificates {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Certificates {
    /// Trusts that CA and no other.
    pub fn new(ca: CertificateDer<'static>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { verifier })
    }

    /// What that chain (leaf first) proves at that time.
    pub fn check(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> CertificateUser {
        let Some((leaf, rest)) = chain.split_first() else {
            return CertificateUser::Nobody;
        };
        let seconds = Duration::from_secs(now.as_second().max(0).unsigned_abs());
        let verified = self
            .verifier
            .verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(seconds));
        if let Err(error) = verified {
            tracing::debug!(%error, "client certificate refused");
            return CertificateUser::Unproven;
        }
        read(leaf).unwrap_or(CertificateUser::Unproven)
    }
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
