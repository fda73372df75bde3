//! TLS for outbound requests, trusting the authorities this machine trusts.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// Where systems keep the authorities they trust: Debian and Alpine, Fedora,
/// SUSE, others.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The settings, read with the first request that needs them: a few hundred
/// certificates take memory.
#[derive(Default)]
pub(crate) struct Tls(OnceLock<Result<Arc<ClientConfig>, String>>);

impl Tls {
    /// Blocks on the file system the first time.
    pub(super) fn connector(&self) -> Result<TlsConnector, String> {
        self.0.get_or_init(config).clone().map(TlsConnector::from)
    }
}

fn config() -> Result<Arc<ClientConfig>, String> {
    // As OpenSSL, and all that follows it, lets users say.
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut bundles = told.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    let mut roots = RootCertStore::empty();
    let bundle = bundles
        .find(|path| path.exists())
        .ok_or("this machine has no list of trusted authorities")?;
    let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| error.to_string())?;
    roots.add_parsable_certificates(certificates.flatten());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}
