//! Brings the bundles that refer to an image, from where cosign 3 leaves them: manifests of their own that name the
//! image as their subject, which a registry lists, or else an index under a tag that is made of the digest (OCI
//! distribution specification 1.1).

use super::super::ImageError;
use super::super::document::{fetch, unresolved};
use super::super::manifest::{ACCEPTED, DOCUMENT_BYTES_MAX, Descriptor, Manifest, hex};
use super::super::registry::{Failure, Repository};
use super::super::trust::{Asked, BUNDLE, BUNDLE_BYTES_MAX, SIGNED, Voucher};
use super::flaw::{Flaw, SIGNATURES_MAX};

/// The beginning of the types of all bundles.
const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
/// What registries that do not know of artifacts' types say in their place.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The annotation of an entry that says what its bundle states.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Finds somebody who answers for the image in a bundle; `why` gets what is wrong with those that do not count.
///
/// # Errors
/// When the registry cannot be asked.
pub(super) async fn find(
    repository: &Repository,
    asked: &Asked<'_>,
    why: &mut Vec<String>,
) -> Result<Option<Voucher>, ImageError> {
    let listed = listed(repository, asked).await?;
    let bundles = listed.iter().filter(|entry| may_be_signature(entry));
    for (number, entry) in (1..).zip(bundles.take(SIGNATURES_MAX)) {
        match one(repository, asked, entry).await {
            Ok(voucher) => return Ok(Some(voucher)),
            Err(Flaw::Void(reason)) => why.push(format!("bundle {number}: {reason}")),
            Err(Flaw::Away(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// What refers to the image.
async fn listed(repository: &Repository, asked: &Asked<'_>) -> Result<Vec<Descriptor>, ImageError> {
    let digest = asked.digest;
    let wanted = BUNDLE.replace('/', "%2F").replace('+', "%2B");
    let by_list = format!("referrers/{digest}?artifactType={wanted}");
    // Where registries keep no lists, whoever adds a referrer keeps one under this tag.
    let by_tag = format!("manifests/{}", digest.replace(':', "-"));
    for (path, accepted) in [(by_list, INDEX), (by_tag, ACCEPTED)] {
        match fetch(repository, &path, accepted, DOCUMENT_BYTES_MAX).await {
            Ok(bytes) => {
                return Ok(Manifest::parse(&bytes)
                    .map(|index| index.manifests)
                    .unwrap_or_default());
            }
            Err(Failure::NotFound | Failure::Final(_)) => {}
            Err(failure) => return Err(unresolved(asked.name, failure)),
        }
    }
    Ok(Vec::new())
}

/// Whether an entry is worth a look: attestations of other things are bundles as well.
fn may_be_signature(entry: &Descriptor) -> bool {
    let kind = entry.artifact_type.as_deref().unwrap_or_default();
    let is_bundle = kind.is_empty() || kind == EMPTY || kind.starts_with(BUNDLES);
    is_bundle && entry.annotation(PREDICATE).is_none_or(|states| states == SIGNED)
}

async fn one(repository: &Repository, asked: &Asked<'_>, entry: &Descriptor) -> Result<Voucher, Flaw> {
    let missing = |failure| Flaw::of(failure, asked, "it is listed, and not there");
    hex(&entry.digest).map_err(|error| Flaw::Void(error.to_string()))?;
    let path = format!("manifests/{}", entry.digest);
    let manifest = fetch(repository, &path, ACCEPTED, DOCUMENT_BYTES_MAX).await;
    let manifest = Manifest::parse(&manifest.map_err(missing)?);
    let manifest = manifest.map_err(|error| Flaw::Void(error.to_string()))?;
    let layer = manifest
        .layers
        .iter()
        .find(|layer| layer.media_type.starts_with(BUNDLES));
    let layer = layer.ok_or_else(|| Flaw::Void("there is no bundle in it".to_owned()))?;
    hex(&layer.digest).map_err(|error| Flaw::Void(error.to_string()))?;
    let path = format!("blobs/{}", layer.digest);
    // Neither digest matters: it is what was signed, or it is not.
    let bundle = fetch(repository, &path, "", BUNDLE_BYTES_MAX).await;
    asked.check_bundle(&bundle.map_err(missing)?).map_err(Flaw::Void)
}
