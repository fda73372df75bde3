//! Which authorities this machine trusts.

use std::path::PathBuf;

/// Where Linux distributions list them, the first that exists counts (as in Go's `crypto/x509`).
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file that lists them, certificates in PEM; `None` when the machine has none.
pub fn system_bundle() -> Option<PathBuf> {
    // As OpenSSL, and all that follows it, lets users say.
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    told.into_iter()
        .chain(BUNDLES.iter().map(PathBuf::from))
        .find(|path| path.exists())
}
