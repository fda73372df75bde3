//! TLS as a client: whom to trust, and how to prove who we are.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// How a client proves who it is: by certificate, by token, both or neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Certificate chain, PEM; empty for none.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
    /// Bearer token; empty for none.
    pub token: String,
}

impl std::fmt::Debug for Credentials {
    /// Says what there is, never what it is: this may reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cert = !self.cert_pem.is_empty();
        f.debug_struct("Credentials")
            .field("certificate", &cert)
            .field("token", &!self.token.is_empty())
            .finish()
    }
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something is not PEM.
    #[error("{0}: not PEM: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or the CA is malformed.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A configuration that trusts the given CAs only.
///
/// # Errors
/// When certificates or keys make no sense.
pub fn config(ca_pem: &str, who: &Credentials, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates("CA", ca_pem)? {
        roots.add(cert)?;
    }
    trusting(roots, who, alpn)
}

/// A configuration that trusts these authorities; `alpn` is what may be spoken.
///
/// # Errors
/// When the client's certificate or key makes no sense.
pub fn trusting(
    roots: RootCertStore,
    who: &Credentials,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    proving(builder, who, alpn)
}

/// A configuration whose trust is settled, completed by who we are and what may be spoken.
pub(crate) fn proving(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    who: &Credentials,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = if who.cert_pem.is_empty() {
        builder.with_no_client_auth()
    } else {
        let key =
            PrivateKeyDer::from_pem_slice(who.key_pem.as_bytes()).map_err(|e| TlsError::Pem("key", e))?;
        builder.with_client_auth_cert(certificates("client certificate", &who.cert_pem)?, key)?
    };
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Pem(what, e))
}
