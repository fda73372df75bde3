//! The authorities that the machine itself trusts.

use std::sync::OnceLock;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where Linux distributions keep them, the first that exists counts (as in Go's `crypto/x509`).
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// They as TLS wants them; none when there is no such file. Read once.
pub fn of_this_machine() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = FILES
            .iter()
            .find_map(|file| CertificateDer::pem_file_iter(file).ok());
        roots.add_parsable_certificates(found.into_iter().flatten().flatten());
        roots
    };
    ROOTS.get_or_init(read).clone()
}
