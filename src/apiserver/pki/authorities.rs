//! Whose servers a data folder trusts.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca::fingerprint;
use super::trust::{FILE, Trust};
use super::{PkiError, files, witness};

/// Whether the serving authority of a data folder that has one is, or was, the one of that hash; `None` for a folder
/// without.
///
/// # Errors
/// When a file cannot be read or makes no sense.
pub fn has_authority(data_dir: &Path, hash: &str) -> Result<Option<bool>, PkiError> {
    let path = data_dir.join("pki/serving-ca.crt");
    let Some(text) = files::read(&path)? else {
        return Ok(None);
    };
    let malformed = |error: rustls::pki_types::pem::Error| PkiError::Malformed {
        path: path.clone(),
        why: error.to_string(),
    };
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let mut hashes = certificates
        .map(|der| der.map(|der| fingerprint(&der)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    hashes.extend(witness::past(data_dir)?);
    let path = data_dir.join(FILE);
    if let Some(text) = files::read(&path)? {
        let trust = Trust::parse(text.as_bytes()).map_err(|why| PkiError::Malformed { path, why })?;
        hashes.extend(trust.past);
    }
    Ok(Some(hashes.iter().any(|known| known.eq_ignore_ascii_case(hash))))
}
