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
mod places;
mod pull;
#[cfg(test)]
mod pull_tests;
mod records;
mod reference;
mod registries;
mod registry;
mod shared;
mod signatures;
#[cfg(test)]
mod signatures_tests;
mod trust;
mod turns;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::ImageError;
pub use image::{AppComponent, Image, ImageConfig, ImageKind};
pub use import::ImportOptions;
pub use pull::Attempt;
pub use registries::{Credentials, Registries};
pub use shared::ImagesConfig;
pub use trust::Voucher;
pub use turns::Turns;

use error::disk;
use shared::{Shared, blocking};

/// The image store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
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
    /// download. Attempts are made in order; without any, with the credentials that the
    /// machine's own settings have for the registry, else none.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn pull(&self, reference: &str, attempts: &[Attempt]) -> Result<Image, ImageError> {
        let parsed = reference::parse(reference)?;
        let _turn = self.shared.pulls.take(&parsed.whole()).await;
        pull::pull(&self.shared, &parsed, attempts).await
    }

    /// Notes of an image who else has shown that they could pull it under that name.
    ///
    /// # Errors
    /// An invalid name, or the disk.
    pub async fn note(&self, digest: &str, reference: &str, note: &str) -> Result<(), ImageError> {
        let repository = reference::repository(&reference::parse(reference)?);
        let (dir, digest, note) = (self.dir().to_owned(), digest.to_owned(), note.to_owned());
        blocking(move || {
            records::change(&dir, |records| {
                for image in records.iter_mut().filter(|image| image.digest == digest) {
                    image.note(&repository, &note);
                }
            })
        })
        .await
    }

    /// A reference without its tag and its digest.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`].
    pub fn repository(reference: &str) -> Result<String, ImageError> {
        reference::parse(reference).map(|parsed| reference::repository(&parsed))
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
        places::layer(&self.shared.config.dir, diff_id)
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
