//! Fetches images from registries (OCI distribution specification).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::assemble::{Parts, assemble};
use super::manifest::{ACCEPTED, Configuration, Descriptor, Manifest, hex};
use super::{Credentials, Image, ImageError, ImagesConfig, blocking, disk, layers};
use crate::with_causes;

/// Silence of a registry after which it counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Manifests and configurations are read whole, so they must be small.
const DOCUMENT_MAX: u64 = 8 << 20;

/// Reads a reference as docker's tools do.
pub(super) fn parse(reference: &str) -> Result<Reference, ImageError> {
    reference
        .parse()
        .map_err(|error: oci_client::ParseError| ImageError::InvalidName {
            reference: reference.to_owned(),
            reason: match error {
                oci_client::ParseError::ReferenceInvalidFormat => "invalid reference format".to_owned(),
                other => other.to_string(),
            },
        })
}

/// Fetches and assembles an image.
pub(super) async fn pull(
    config: &Arc<ImagesConfig>,
    reference: &Reference,
    credentials: &[Credentials],
) -> Result<Image, ImageError> {
    let client = client(config, reference);
    let (auth, bytes) = first_manifest(&client, reference, credentials).await?;
    let fetch = Fetch {
        client,
        reference: reference.clone(),
        auth,
        dir: config.dir.clone(),
    };
    let result = fetch.image(bytes).await;
    fetch.clean_up();
    result
}

fn client(config: &ImagesConfig, reference: &Reference) -> Client {
    let registry = reference.resolve_registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    let plain = local || config.insecure_registries.iter().any(|known| known == registry);
    Client::new(ClientConfig {
        protocol: if plain {
            ClientProtocol::HttpsExcept(vec![registry.to_owned()])
        } else {
            ClientProtocol::Https
        },
        read_timeout: Some(SILENCE_MAX),
        connect_timeout: Some(CONNECT_MAX),
        user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

/// The manifest, with the first credentials that the registry takes.
async fn first_manifest(
    client: &Client,
    reference: &Reference,
    credentials: &[Credentials],
) -> Result<(RegistryAuth, Vec<u8>), ImageError> {
    let known = credentials
        .iter()
        .map(|c| RegistryAuth::Basic(c.username.clone(), c.password.clone()));
    let mut last = None;
    for auth in known.chain([RegistryAuth::Anonymous]) {
        match client.pull_manifest_raw(reference, &auth, &ACCEPTED).await {
            Ok((bytes, digest)) => {
                check(&bytes, &digest)?;
                return Ok((auth, bytes.to_vec()));
            }
            Err(error) => {
                let error = explain(reference, error);
                if !matches!(error, ImageError::Denied(_)) {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| ImageError::Registry("no credentials left to try".to_owned())))
}

fn check(bytes: &[u8], digest: &str) -> Result<(), ImageError> {
    let found = format!("sha256:{:x}", Sha256::digest(bytes));
    if digest.starts_with("sha256:") && found != digest {
        return Err(ImageError::Unusable(format!(
            "content has digest {found}, expected {digest}"
        )));
    }
    Ok(())
}

fn explain(reference: &Reference, error: OciDistributionError) -> ImageError {
    let whole = reference.whole();
    match &error {
        OciDistributionError::ImageManifestNotFoundError(_) => ImageError::NotFound { reference: whole },
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            ImageError::Denied(format!("{whole}: authorization failed"))
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
            if has(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                ImageError::NotFound { reference: whole }
            } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                ImageError::Denied(format!("{whole}: authorization failed"))
            } else {
                ImageError::Registry(format!("failed to pull {whole}: {error}"))
            }
        }
        OciDistributionError::ServerError { code: 404, .. } => ImageError::NotFound { reference: whole },
        OciDistributionError::ServerError { code: 401 | 403, .. } => {
            ImageError::Denied(format!("{whole}: authorization failed"))
        }
        _ => ImageError::Registry(format!("failed to pull {whole}: {}", with_causes(&error))),
    }
}

/// One pull under way.
struct Fetch {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    dir: PathBuf,
}

impl Fetch {
    async fn image(&self, mut bytes: Vec<u8>) -> Result<Image, ImageError> {
        let mut manifest = Manifest::parse(&bytes)?;
        let top_digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        if manifest.is_index() {
            bytes = self.manifest(manifest.choose()?).await?;
            manifest = Manifest::parse(&bytes)?;
        }
        let config_at = manifest
            .config
            .clone()
            .ok_or_else(|| ImageError::Unusable("manifest without a configuration".to_owned()))?;
        let config = self.document(&config_at).await?;
        let layers = match manifest.wasm_layer() {
            Some(layer) => vec![self.blob(layer).await?],
            None => self.layers(&manifest, &config).await?,
        };
        let mut references = vec![self.reference.whole()];
        let by_digest = self.reference.clone_with_digest(top_digest.clone()).whole();
        if !references.contains(&by_digest) {
            references.push(by_digest);
        }
        let parts = Parts {
            digest: top_digest,
            manifest,
            config_digest: config_at.digest,
            config,
            layers: layers.clone(),
            references,
        };
        let dir = self.dir.clone();
        let result = blocking(move || assemble(&dir, parts)).await;
        for layer in layers {
            // Its content is in place, or was not wanted.
            let _ = tokio::fs::remove_file(layer).await;
        }
        result
    }

    async fn layers(&self, manifest: &Manifest, config: &[u8]) -> Result<Vec<PathBuf>, ImageError> {
        let known = Configuration::parse(config)?.rootfs.diff_ids;
        let mut files = Vec::new();
        for (index, layer) in manifest.layers.iter().enumerate() {
            let unpacked = known
                .get(index)
                .is_some_and(|id| layers::path(&self.dir, id).is_dir());
            // A layer that is here already is not fetched again; its path is never read.
            files.push(if unpacked {
                self.dir.join("tmp/unneeded")
            } else {
                self.blob(layer).await?
            });
        }
        Ok(files)
    }

    async fn manifest(&self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let reference = self.reference.clone_with_digest(at.digest.clone());
        let answer = self
            .client
            .pull_manifest_raw(&reference, &self.auth, &ACCEPTED)
            .await;
        let (bytes, _) = answer.map_err(|error| explain(&reference, error))?;
        check(&bytes, &at.digest)?;
        Ok(bytes.to_vec())
    }

    async fn document(&self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if at.size > DOCUMENT_MAX {
            return Err(ImageError::Unusable(format!(
                "configuration of {} bytes is too large",
                at.size
            )));
        }
        let file = self.blob(at).await?;
        let bytes = tokio::fs::read(&file)
            .await
            .map_err(disk("reading a configuration"));
        let _ = tokio::fs::remove_file(&file).await;
        bytes
    }

    /// Fetches content into a file; never more than the size that was announced.
    async fn blob(&self, at: &Descriptor) -> Result<PathBuf, ImageError> {
        hex(&at.digest)?;
        let path = layers::temporary(&self.dir, "blob")?;
        match self.fetch(at, &path).await {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = tokio::fs::remove_file(&path).await;
                Err(error)
            }
        }
    }

    async fn fetch(&self, at: &Descriptor, path: &Path) -> Result<(), ImageError> {
        let layer = OciDescriptor {
            media_type: at.media_type.clone(),
            digest: at.digest.clone(),
            size: i64::try_from(at.size).unwrap_or(i64::MAX),
            urls: None,
            annotations: None,
            artifact_type: None,
        };
        let stream = self.client.pull_blob_stream(&self.reference, &layer).await;
        let mut stream = stream.map_err(|error| explain(&self.reference, error))?;
        let mut file = tokio::fs::File::create(path)
            .await
            .map_err(disk("writing a layer"))?;
        let (mut hash, mut got) = (Sha256::new(), 0u64);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                ImageError::Registry(format!(
                    "failed to pull {}: {}",
                    self.reference.whole(),
                    with_causes(&error)
                ))
            })?;
            got += chunk.len() as u64;
            if got > at.size {
                return Err(ImageError::Unusable(format!(
                    "{} is larger than announced",
                    at.digest
                )));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(disk("writing a layer"))?;
        }
        file.flush().await.map_err(disk("writing a layer"))?;
        let found = format!("sha256:{:x}", hash.finalize());
        if found != at.digest {
            return Err(ImageError::Unusable(format!(
                "content has digest {found}, expected {}",
                at.digest
            )));
        }
        Ok(())
    }

    /// Removes what pulls that were killed have left, a day later.
    fn clean_up(&self) {
        const OLD: Duration = Duration::from_secs(24 * 3600);
        for entry in std::fs::read_dir(self.dir.join("tmp"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
            if modified
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|age| age > OLD)
            {
                let path = entry.path();
                let _ = if path.is_dir() {
                    std::fs::remove_dir_all(path)
                } else {
                    std::fs::remove_file(path)
                };
            }
        }
    }
}
