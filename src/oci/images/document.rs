//! What registries are asked for and is read whole: manifests, indexes, payloads of signatures.

use oci_spec::distribution::Reference;

use super::registry::{Failure, Repository, Wanted, whole};
use super::{ImageError, layers};

/// Asks for what lies at `path` below the repository; at most `bytes_max` of it.
pub(super) async fn fetch(
    repository: &Repository,
    path: &str,
    accept: &str,
    bytes_max: u64,
) -> Result<Vec<u8>, Failure> {
    let wanted = Wanted {
        path,
        accept,
        from: 0,
    };
    let response = repository.get(wanted).await?;
    whole(response, usize::try_from(bytes_max).unwrap_or(usize::MAX)).await
}

/// Refuses other content than the digest names.
pub(super) fn check(bytes: &[u8], digest: &str) -> Result<(), ImageError> {
    let found = layers::digest_of(bytes)?;
    if found != digest {
        return Err(ImageError::Unusable(format!(
            "content has digest {found}, expected {digest}"
        )));
    }
    Ok(())
}

/// Words a failure to find the image at all, as containerd does.
pub(super) fn unresolved(name: &Reference, failure: Failure) -> ImageError {
    let name = name.whole();
    match failure {
        Failure::NotFound => ImageError::NotFound { reference: name },
        Failure::Denied(why) => ImageError::Denied(format!(
            "failed to resolve reference {name:?}: pull access denied, repository does not exist or may require \
             authorization: {why}"
        )),
        Failure::Transient(why, _) | Failure::Final(why) => {
            ImageError::Registry(format!("failed to resolve reference {name:?}: {why}"))
        }
    }
}
