//! The authorities that the machine itself trusts.

use std::sync::OnceLock;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// They as TLS wants them; none when there is no such file. Read once.
pub fn of_this_machine() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found =
            base::authorities::system_bundle().and_then(|file| CertificateDer::pem_file_iter(file).ok());
        roots.add_parsable_certificates(found.into_iter().flatten().flatten());
        roots
    };
    ROOTS.get_or_init(read).clone()
}
