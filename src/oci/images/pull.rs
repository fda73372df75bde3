//! Fetches images from registries: manifest, configuration, content, each once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::distribution::Reference;

use super::app::{self, LockedApp};
use super::assemble::{self, Names};
use super::document::{self, check, unresolved};
use super::download::{self, Blob, Progress};
use super::lease::Lease;
use super::manifest::{
    ACCEPTED, Configuration, DOCUMENT_BYTES_MAX, Descriptor, INDEX_DEPTH_MAX, Manifest, hex,
};
use super::registry::Repository;
use super::trust::Asked;
use super::{
    Credentials, Image, ImageConfig, ImageError, ImageKind, Shared, Voucher, blocking, layers, records,
    reference, signatures,
};

/// Layers of one image that are fetched and unpacked at the same time.
const LAYERS_AT_ONCE: usize = 3;

/// One way to ask a registry.
#[derive(Clone, Default)]
pub struct Attempt {
    /// With what; `None`: the machine's own credentials for the registry, else none.
    pub credentials: Option<Credentials>,
    /// What is noted of the image if the registry lets it go for that (see [`Image::pulled_by`]); `None`: nothing.
    pub note: Option<String>,
}

/// Fetches and assembles an image. Attempts are made in order; with none, nobody is named and nothing noted.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    name: &Reference,
    attempts: &[Attempt],
) -> Result<Image, ImageError> {
    // What the policy refuses is not even asked for.
    shared.config.registries.policy().signers(name)?;
    let nobody = [Attempt::default()];
    let attempts = if attempts.is_empty() { &nobody } else { attempts };
    let mut last = None;
    for Attempt { credentials, note } in attempts {
        let config = &shared.config;
        let repository = Repository::new(&config.registries, config.silence_max, name, credentials.as_ref())?;
        match top(&repository, name).await {
            Ok(bytes) => {
                let dir = config.dir.clone();
                let lease = blocking(move || Lease::open(&dir)).await?;
                let fetch = Fetch {
                    shared: shared.clone(),
                    repository,
                    name: name.clone(),
                    note: note.clone(),
                    lease: Arc::new(lease),
                };
                sweep(shared);
                return fetch.image(bytes).await;
            }
            Err(error @ ImageError::Denied(_)) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| ImageError::Registry("no credentials left to try".to_owned())))
}

/// The manifest or index behind the reference; what a digest names is checked.
async fn top(repository: &Repository, name: &Reference) -> Result<Vec<u8>, ImageError> {
    let at = name.digest().or(name.tag()).unwrap_or("latest");
    if let Some(digest) = name.digest() {
        hex(digest)?;
    }
    let bytes = document::fetch(
        repository,
        &format!("manifests/{at}"),
        ACCEPTED,
        DOCUMENT_BYTES_MAX,
    )
    .await;
    let bytes = bytes.map_err(|failure| unresolved(name, failure))?;
    if let Some(digest) = name.digest() {
        check(&bytes, digest)?;
    }
    Ok(bytes)
}

/// One pull under way.
struct Fetch {
    shared: Arc<Shared>,
    repository: Repository,
    name: Reference,
    /// What is noted of the image.
    note: Option<String>,
    lease: Arc<Lease>,
}

impl Fetch {
    async fn image(&self, top: Vec<u8>) -> Result<Image, ImageError> {
        let digest = layers::digest_of(&top[..])?;
        let vouchers = self.vouchers(&digest).await?;
        let manifest = self.choose(top).await?;
        let config_at = manifest.config()?.clone();
        let progress = Progress::new(&self.name.whole(), manifest.bytes());
        let mut references = vec![self.name.whole(), reference::by_digest(&self.name, &digest)];
        references.dedup();
        let names = Names {
            digest,
            id: config_at.digest.clone(),
            references,
            size_bytes: manifest.bytes(),
        };
        let config = self.small(&config_at, &progress).await?;
        let (kind, config) = self.content(manifest, config, &progress).await?;
        let dir = self.shared.config.dir.clone();
        let pulled_by = self
            .note
            .iter()
            .map(|note| (reference::repository(&self.name), vec![note.clone()]));
        let pulled_by = pulled_by.collect();
        blocking(move || assemble::record(&dir, names, vouchers, pulled_by, kind, config)).await
    }

    /// Who answers for what the name was resolved to, where the policy wants
    /// somebody to of whom the store does not know yet.
    async fn vouchers(&self, digest: &str) -> Result<Vec<Voucher>, ImageError> {
        let policy = self.shared.config.registries.policy();
        let Some(signers) = policy.signers(&self.name)? else {
            return Ok(Vec::new());
        };
        let dir = self.shared.config.dir.clone();
        let images = blocking(move || records::read(&dir)).await?;
        let here = images.into_iter().find(|image| image.digest == digest);
        if here.is_some_and(|image| policy.admits(&self.name, &image.vouchers).is_ok()) {
            return Ok(Vec::new());
        }
        let asked = Asked {
            name: &self.name,
            digest,
            keys: signers.keys,
            bundles: signers.bundles,
        };
        Ok(vec![signatures::find(&self.repository, &asked).await?])
    }

    /// Descends from indexes to the manifest that runs here.
    async fn choose(&self, top: Vec<u8>) -> Result<Manifest, ImageError> {
        let mut manifest = Manifest::parse(&top)?;
        for _ in 0..INDEX_DEPTH_MAX {
            if !manifest.is_index() {
                return Ok(manifest);
            }
            let at = manifest.choose()?;
            hex(&at.digest)?;
            let path = format!("manifests/{}", at.digest);
            let bytes = document::fetch(&self.repository, &path, ACCEPTED, DOCUMENT_BYTES_MAX).await;
            let bytes = bytes.map_err(|failure| unresolved(&self.name, failure))?;
            check(&bytes, &at.digest)?;
            manifest = Manifest::parse(&bytes)?;
        }
        Err(ImageError::Unusable(format!(
            "indexes lie within one another more than {INDEX_DEPTH_MAX} deep"
        )))
    }

    /// Brings the content and finds out what it is.
    async fn content(
        &self,
        manifest: Manifest,
        config: Vec<u8>,
        progress: &Progress,
    ) -> Result<(ImageKind, ImageConfig), ImageError> {
        let dir = self.shared.config.dir.clone();
        if let Some(at) = app::locked_at(&manifest) {
            let locked = if manifest.config()?.digest == at.digest {
                config
            } else {
                self.small(at, progress).await?
            };
            let kind = self.app(&manifest, at.digest.clone(), &locked, progress).await?;
            return Ok((kind, ImageConfig::default()));
        }
        if let Some(layer) = manifest.wasm_layer() {
            let blob = self.blob(layer, progress).await?;
            // Its digest is the program's.
            self.hold(&layer.digest).await?;
            let kept = blocking(move || assemble::keep_module(&dir, &blob.path)).await;
            let (module, digest) = kept?;
            return Ok((
                ImageKind::Wasm { module, digest },
                assemble::config_of_artifact(&config),
            ));
        }
        let configuration = Configuration::parse(&config)?;
        manifest.check_layers(&configuration.rootfs.diff_ids)?;
        let layers = manifest.layers.iter().zip(&configuration.rootfs.diff_ids);
        let work: Vec<_> = layers
            .map(|(at, diff_id)| self.layer(at, diff_id, progress))
            .collect();
        stream::iter(work)
            .buffer_unordered(LAYERS_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        blocking(move || assemble::of_layers(&dir, &manifest, &configuration)).await
    }

    /// Brings one layer, unless it is here; images that share one do so once.
    async fn layer(&self, at: &Descriptor, diff_id: &str, progress: &Progress) -> Result<(), ImageError> {
        let _turn = self.shared.layers.take(diff_id).await;
        let (dir, lease, id) = (
            self.shared.config.dir.clone(),
            self.lease.clone(),
            diff_id.to_owned(),
        );
        if blocking(move || layers::is_here(&dir, &id, &lease)).await? {
            return Ok(());
        }
        let blob = self.blob(at, progress).await?;
        let (dir, lease, id) = (
            self.shared.config.dir.clone(),
            self.lease.clone(),
            diff_id.to_owned(),
        );
        let size = at.size;
        blocking(move || {
            let archive = layers::open(&blob.path)?;
            layers::add(&dir, archive, size, Some(&id), &lease).map(drop)
        })
        .await
    }

    async fn app(
        &self,
        manifest: &Manifest,
        locked_digest: String,
        locked: &[u8],
        progress: &Progress,
    ) -> Result<ImageKind, ImageError> {
        let app = LockedApp::parse(locked)?;
        let fetch = |at: &Descriptor| {
            let at = at.clone();
            async move { Ok::<_, ImageError>((at.digest.clone(), self.blob(&at, progress).await?)) }
        };
        let work: Vec<_> = manifest.layers.iter().map(fetch).collect();
        let blobs: BTreeMap<String, Blob> = stream::iter(work)
            .buffer_unordered(LAYERS_AT_ONCE)
            .try_collect()
            .await?;
        let (dir, lease, manifest) = (
            self.shared.config.dir.clone(),
            self.lease.clone(),
            manifest.clone(),
        );
        blocking(move || {
            let blob = |at: &Descriptor| {
                let found = blobs.get(&at.digest).map(|blob| blob.path.clone());
                found.ok_or_else(|| ImageError::Unusable(format!("layer {} was not fetched", at.digest)))
            };
            app::keep(&dir, &manifest, &locked_digest, &app, &blob, &lease)
        })
        .await
    }

    async fn hold(&self, digest: &str) -> Result<(), ImageError> {
        let (lease, digest) = (self.lease.clone(), digest.to_owned());
        blocking(move || lease.hold(&digest)).await
    }

    async fn blob(&self, at: &Descriptor, progress: &Progress) -> Result<Blob, ImageError> {
        download::blob(&self.repository, at, &self.shared.config.dir, progress).await
    }

    /// Content that is read whole.
    async fn small(&self, at: &Descriptor, progress: &Progress) -> Result<Vec<u8>, ImageError> {
        if at.size > DOCUMENT_BYTES_MAX {
            return Err(ImageError::Unusable(format!(
                "{} has {} bytes, {DOCUMENT_BYTES_MAX} are allowed",
                at.digest, at.size
            )));
        }
        let blob: Blob = self.blob(at, progress).await?;
        let path: PathBuf = blob.path.clone();
        let bytes = tokio::fs::read(&path).await;
        bytes.map_err(super::disk("reading a configuration"))
    }
}

/// Removes what pulls that were killed or given up have left, a day later.
fn sweep(shared: &Shared) {
    const OLD: Duration = Duration::from_secs(24 * 3600);
    let entries = std::fs::read_dir(shared.config.dir.join("tmp"));
    for entry in entries.into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = modified.and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > OLD) {
            let path = entry.path();
            let _ = if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
        }
    }
}
