//! Files with keys in them.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::PkiError;

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |error| PkiError::Io { path, error }
}

/// Makes a folder that only its owner may look into.
pub(super) fn private_dir(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io(path))
}

/// The file's text; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path)(error)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PkiError> {
    base::files::absent_is_fine(fs::remove_file(path)).map_err(io(path))
}

/// Writes a file of mode 0600 that is there whole or not at all, also after a power cut.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    base::files::replace(path, bytes, 0o600, true).map_err(io(path))
}

/// The same, for everyone to read.
pub(super) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    base::files::replace(path, bytes, 0o644, true).map_err(io(path))
}

/// [`write_secret`], unless the file says this already.
pub(super) fn change_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    match read(path)? {
        Some(old) if old == text => Ok(()),
        _ => write_secret(path, text.as_bytes()),
    }
}

/// [`write_public`], unless the file says this already.
pub(super) fn change_public(path: &Path, text: &str) -> Result<(), PkiError> {
    match read(path)? {
        Some(old) if old == text => Ok(()),
        _ => write_public(path, text.as_bytes()),
    }
}

/// PEM of the P-256 key in that file, which is made if it does not exist.
pub(super) fn key(path: &Path) -> Result<String, PkiError> {
    if let Some(text) = read(path)? {
        return match rcgen::KeyPair::from_pem(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(PkiError::Malformed {
                path: path.to_owned(),
                why: format!("this is no private key: {error}"),
            }),
        };
    }
    let text = rcgen::KeyPair::generate()?.serialize_pem();
    write_secret(path, text.as_bytes())?;
    Ok(text)
}
