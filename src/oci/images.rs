//! The image store: pull, import, list, find, remove, collect garbage.

mod app;
mod assemble;
mod bundle;
mod document;
mod download;
mod error;
mod image;
mod import;
mod layers;
mod lease;
mod limits;
mod manifest;
mod pull;
#[cfg(test)]
mod pull_tests;
mod records;
mod reference;
mod registries;
mod registry;
mod signatures;
#[cfg(test)]
mod signatures_tests;
mod trust;
mod turns;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use app::AppComponent;
pub use error::ImageError;
pub use image::{Image, ImageConfig, ImageKind};
pub use registries::Registries;
pub use trust::Voucher;
pub use turns::Turns;

use error::disk;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Its folder, `<data-dir>/images`. May be shared by several processes at
    /// once (`coracle image import` beside a running node).
    pub dir: PathBuf,
    /// Where registries are reached, and with what.
    pub registries: Registries,
    /// Silence of a registry after which it counts as gone.
    pub silence_max: Duration,
}

impl ImagesConfig {
    /// A store in `dir` that knows of registries no more than their names.
    pub fn new(dir: PathBuf) -> ImagesConfig {
        ImagesConfig {
            dir,
            registries: Registries::default(),
            silence_max: Duration::from_secs(30),
        }
    }
}

/// How to identify oneself to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token. A secret: never logged (there is no `Debug`).
    pub password: String,
}

/// How to import a file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Reference to give the image; required for plain root file systems and
    /// `.wasm` files, else the archive's own name is used.
    pub name: Option<String>,
    /// Program and arguments, for plain root file systems.
    pub entrypoint: Vec<String>,
}

/// The image store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
}

/// What the store's clones and its pulls share.
#[derive(Debug)]
struct Shared {
    config: ImagesConfig,
    /// One pull of a reference at a time; the second finds what the first brought.
    pulls: turns::Turns,
    /// One fetch of a layer at a time.
    layers: turns::Turns,
}

impl Images {
    /// Opens the store, making its folder if needed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn open(config: ImagesConfig) -> Result<Images, ImageError> {
        // A second installation of the same provider is refused, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        records::prepare(&config.dir)?;
        let (pulls, layers) = Default::default();
        Ok(Images {
            shared: Arc::new(Shared {
                config,
                pulls,
                layers,
            }),
        })
    }

    /// The normalised form of a reference as written in a pod
    /// (`busybox` → `docker.io/library/busybox:latest`).
    ///
    /// # Errors
    /// [`ImageError::InvalidName`].
    pub fn normalize(reference: &str) -> Result<String, ImageError> {
        reference::parse(reference).map(|parsed| parsed.whole())
    }

    /// The image of that name, or of that digest, if the store has it; sees
    /// what another process has imported meanwhile.
    ///
    /// # Errors
    /// An invalid name, or the disk.
    pub async fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let by_digest = reference.starts_with("sha256:");
        let name = if by_digest {
            reference.to_owned()
        } else {
            Self::normalize(reference)?
        };
        let dir = self.dir().to_owned();
        blocking(move || {
            let records = records::read(&dir)?;
            let is_it =
                |image: &Image| image.references.contains(&name) || image.digest == name || image.id == name;
            Ok(records.into_iter().find(is_it))
        })
        .await
    }

    /// Whether the policy lets that image of the store run under that name.
    ///
    /// # Errors
    /// [`ImageError::Untrusted`], which says what is missing; an invalid name.
    pub fn admits(&self, reference: &str, image: &Image) -> Result<(), ImageError> {
        let name = reference::parse(reference)?;
        self.shared
            .config
            .registries
            .policy()
            .admits(&name, &image.vouchers)
    }

    /// Fetches the image from its registry and unpacks it, unless all of its
    /// content is here; where the policy asks for it, only if it is signed. Pulls of one reference at the same time share one
    /// download. Credentials are tried in order; without any, those that the
    /// machine's own settings have for the registry, else none.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn pull(&self, reference: &str, credentials: &[Credentials]) -> Result<Image, ImageError> {
        let parsed = reference::parse(reference)?;
        let _turn = self.shared.pulls.take(&parsed.whole()).await;
        pull::pull(&self.shared, &parsed, credentials).await
    }

    /// Reads an OCI archive, a docker archive, a root file system tar or a
    /// `.wasm` file into the store.
    ///
    /// # Errors
    /// When the file is none of these, or damaged.
    pub async fn import(&self, source: &Path, options: ImportOptions) -> Result<Vec<Image>, ImageError> {
        let (dir, source) = (self.dir().to_owned(), source.to_owned());
        blocking(move || import::import(&dir, &source, &options)).await
    }

    /// Every image, in the order of their first references.
    ///
    /// # Errors
    /// The disk.
    pub async fn list(&self) -> Result<Vec<Image>, ImageError> {
        let dir = self.dir().to_owned();
        let mut images = blocking(move || records::read(&dir)).await?;
        images.retain(|image| !image.references.is_empty());
        images.sort_by(|a, b| a.references.cmp(&b.references));
        Ok(images)
    }

    /// Forgets a reference, and the image's content with its last one, unless
    /// a container still runs from it. Returns whether there was one.
    ///
    /// # Errors
    /// The disk.
    pub async fn remove(&self, reference: &str) -> Result<bool, ImageError> {
        let name = Self::normalize(reference)?;
        let dir = self.dir().to_owned();
        blocking(move || {
            let mut found = false;
            records::change(&dir, |records| {
                for image in records.iter_mut() {
                    found |= image.references.contains(&name);
                    image.references.retain(|reference| *reference != name);
                }
            })?;
            records::collect(&dir, &[])?;
            Ok(found)
        })
        .await
    }

    /// Forgets every reference of the image with that manifest digest, and its
    /// content unless a container runs from it; returns the bytes freed.
    ///
    /// # Errors
    /// The disk.
    pub async fn remove_digest(&self, digest: &str) -> Result<u64, ImageError> {
        let (dir, digest) = (self.dir().to_owned(), digest.to_owned());
        blocking(move || {
            records::change(&dir, |records| {
                for image in records.iter_mut().filter(|image| image.digest == digest) {
                    image.references.clear();
                }
            })?;
            records::collect(&dir, &[])
        })
        .await
    }

    /// Drops content that no reference, no container and none of the manifest
    /// digests in `keep` needs; returns the bytes freed.
    ///
    /// # Errors
    /// The disk.
    pub async fn collect(&self, keep: &[String]) -> Result<u64, ImageError> {
        let (dir, keep) = (self.dir().to_owned(), keep.to_vec());
        blocking(move || records::collect(&dir, &keep)).await
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// Where the unpacked layer with that `diff_id` lies.
    pub fn layer_path(&self, diff_id: &str) -> PathBuf {
        layers::path(&self.shared.config.dir, diff_id)
    }

    /// Marks an image as in use by a container, so that its content stays.
    ///
    /// # Errors
    /// The disk.
    pub fn hold(&self, container: &str, digest: &str) -> Result<(), ImageError> {
        let path = self.shared.config.dir.join("in-use").join(container);
        std::fs::write(&path, digest).map_err(disk("marking an image as used"))
    }

    /// Takes the mark of [`Images::hold`] away.
    pub fn release(&self, container: &str) {
        // A mark that is not there needs no removing; one that stays only keeps content longer.
        let _ = std::fs::remove_file(self.shared.config.dir.join("in-use").join(container));
    }
}

/// Runs work that waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::Io {
            context: "working on images".to_owned(),
            reason: error.to_string(),
        })?
}
