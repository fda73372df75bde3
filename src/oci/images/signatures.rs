//! Brings the signatures of an image, from where cosign leaves them: in the
//! same repository, under a tag made of the image's digest, a layer each; or,
//! where the policy lets them count, in bundles that refer to it.

mod flaw;
mod referrers;

use flaw::{Flaw, SIGNATURES_MAX};

use super::ImageError;
use super::document::{fetch, unresolved};
use super::manifest::{ACCEPTED, DOCUMENT_BYTES_MAX, Descriptor, Manifest, hex};
use super::registry::{Failure, Repository};
use super::trust::{Asked, PAYLOAD_BYTES_MAX, Voucher};

/// Type of the layers that are signed payloads.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of such a layer that holds the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Of so many it is told why they do not count.
const TOLD_MAX: usize = 3;

/// Finds somebody who answers for the image.
///
/// # Errors
/// [`ImageError::Untrusted`] when nobody does, others when the registry cannot be asked.
pub(super) async fn find(repository: &Repository, asked: &Asked<'_>) -> Result<Voucher, ImageError> {
    let mut why = Vec::new();
    let mut found = tagged(repository, asked, &mut why).await?;
    if found.is_none() && asked.bundles {
        found = referrers::find(repository, asked, &mut why).await?;
    }
    if let Some(voucher) = found {
        return Ok(voucher);
    }
    if why.is_empty() {
        return Err(unsigned(asked));
    }
    why.truncate(TOLD_MAX);
    Err(ImageError::Untrusted(format!(
        "no signature of {} counts: {}",
        asked.digest,
        why.join("; ")
    )))
}

/// Finds somebody who answers for the image under the tag of its signatures; `why` gets what is wrong with those that
/// do not count.
async fn tagged(
    repository: &Repository,
    asked: &Asked<'_>,
    why: &mut Vec<String>,
) -> Result<Option<Voucher>, ImageError> {
    let layers = match layers(repository, asked).await {
        Ok(layers) => layers,
        Err(Flaw::Void(reason)) => {
            why.push(reason);
            return Ok(None);
        }
        Err(Flaw::Away(error)) => return Err(error),
    };
    let signed = layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING);
    for (number, layer) in (1..).zip(signed.take(SIGNATURES_MAX)) {
        match one(repository, asked, layer).await {
            Ok(voucher) => return Ok(Some(voucher)),
            Err(Flaw::Void(reason)) => why.push(format!("signature {number}: {reason}")),
            Err(Flaw::Away(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// What lies under the tag of the image's signatures.
async fn layers(repository: &Repository, asked: &Asked<'_>) -> Result<Vec<Descriptor>, Flaw> {
    let path = format!("manifests/{}", tag(asked.digest));
    match fetch(repository, &path, ACCEPTED, DOCUMENT_BYTES_MAX).await {
        Ok(bytes) => Manifest::parse(&bytes)
            .map(|manifest| manifest.layers)
            .map_err(|error| {
                Flaw::Void(format!(
                    "what lies under {} cannot be read: {error}",
                    tag(asked.digest)
                ))
            }),
        Err(Failure::NotFound) => Ok(Vec::new()),
        Err(failure) => Err(Flaw::Away(unresolved(asked.name, failure))),
    }
}

/// The tag under which signatures of that digest lie (cosign's signature specification).
fn tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

fn unsigned(asked: &Asked<'_>) -> ImageError {
    let bundles = match asked.bundles {
        true => ", and no bundle that refers to it",
        // They name no repository.
        false => " (bundles of sigstore's do not count where the policy does not say `bundles: true`)",
    };
    ImageError::Untrusted(format!(
        "{} is not signed: its repository has no signature under the tag {}{bundles}",
        asked.digest,
        tag(asked.digest)
    ))
}

async fn one(repository: &Repository, asked: &Asked<'_>, layer: &Descriptor) -> Result<Voucher, Flaw> {
    let signature = layer
        .annotation(SIGNATURE)
        .ok_or_else(|| Flaw::Void("its annotation is missing".to_owned()))?;
    hex(&layer.digest).map_err(|error| Flaw::Void(error.to_string()))?;
    if layer.size > PAYLOAD_BYTES_MAX {
        let text = format!("it signs {} bytes, {PAYLOAD_BYTES_MAX} are allowed", layer.size);
        return Err(Flaw::Void(text));
    }
    let path = format!("blobs/{}", layer.digest);
    // The digest of what comes does not matter: it is what was signed, or it is not.
    let payload = fetch(repository, &path, "", PAYLOAD_BYTES_MAX).await;
    let payload = payload.map_err(|failure| Flaw::of(failure, asked, "what it signs is not there"))?;
    asked.check(&payload, signature).map_err(Flaw::Void)
}
