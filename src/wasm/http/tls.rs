//! TLS for outbound requests, trusting the authorities this machine trusts.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// The settings, read with the first request that needs them: a few hundred
/// certificates take memory.
pub(crate) struct Tls {
    bundle: Option<PathBuf>,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Trusts the authorities in this file; None: those this machine trusts.
    pub(crate) fn new(bundle: Option<PathBuf>) -> Tls {
        Tls {
            bundle,
            config: OnceLock::new(),
        }
    }

    /// Blocks on the file system the first time.
    pub(super) fn connector(&self) -> Result<TlsConnector, String> {
        self.config
            .get_or_init(|| config(self.bundle.clone()))
            .clone()
            .map(TlsConnector::from)
    }
}

fn config(bundle: Option<PathBuf>) -> Result<Arc<ClientConfig>, String> {
    let bundle = bundle
        .or_else(base::authorities::system_bundle)
        .ok_or("this machine has no list of trusted authorities")?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", bundle.display());
    let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| failed(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.flatten());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}
