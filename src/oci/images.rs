//! The image store: pull, import, list, find, remove, collect garbage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Why an image cannot be had. The texts end up in pod events and container
/// statuses behind `Failed to pull image "…": `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference is not one (`InvalidImageName` in a pod's status).
    #[error("couldn't parse image name {reference:?}: {reason}")]
    InvalidName {
        /// The reference as written.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry has no such image.
    #[error("{reference}: not found")]
    NotFound {
        /// The normalised reference.
        reference: String,
    },
    /// The registry refuses these credentials, or wants some.
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Denied(String),
    /// The registry cannot be reached or answers nonsense; trying again may help.
    #[error("{0}")]
    Registry(String),
    /// The image is damaged, or of a kind or platform that cannot run here.
    #[error("{0}")]
    Unusable(String),
    /// This machine's disk.
    #[error("{context}: {reason}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's reason.
        reason: String,
    },
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Its folder, `<data-dir>/images`. May be shared by several processes at
    /// once (`coracle image import` beside a running node).
    pub dir: PathBuf,
    /// Registries (`host[:port]`) spoken to over plain HTTP besides those on loopback.
    pub insecure_registries: Vec<String>,
}

/// How to identify oneself to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token. A secret: never logged (there is no `Debug`).
    pub password: String,
}

/// What an image says about running it (the `config` object of an OCI image
/// configuration, or what a Wasm artifact has in its place).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ImageConfig {
    /// Program and fixed arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Working directory; empty for `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub user: String,
    /// Signal that asks the program to end, such as `SIGQUIT`; empty for `SIGTERM`.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Paths the image declares as volumes.
    pub volumes: Vec<String>,
}

/// What kind of program an image holds, found from the artifact itself in the
/// order that the architecture document lays down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// An ordinary image: a root file system of layers.
    Oci {
        /// `diff_id`s of its layers, lowest first.
        layers: Vec<String>,
    },
    /// A WebAssembly program.
    Wasm {
        /// The program's file in the store; stays until the image is removed.
        module: PathBuf,
        /// Digest of that file, `sha256:…`.
        digest: String,
    },
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The normalised references it is known by (`docker.io/library/busybox:1.36`), tags and digests.
    pub references: Vec<String>,
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Digest of its configuration: the image id that `imageID` falls back to.
    pub id: String,
    /// Bytes its content takes in the store.
    pub size_bytes: u64,
    /// How to run it.
    pub config: ImageConfig,
    /// What it is.
    pub kind: ImageKind,
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
    config: ImagesConfig,
}

fn unbuilt<T>(context: &str) -> Result<T, ImageError> {
    Err(ImageError::Io {
        context: context.to_owned(),
        reason: "not built yet".to_owned(),
    })
}

impl Images {
    /// Opens the store, making its folder if needed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn open(config: ImagesConfig) -> Result<Images, ImageError> {
        Ok(Images { config })
    }

    /// The normalised form of a reference as written in a pod
    /// (`busybox` → `docker.io/library/busybox:latest`).
    ///
    /// # Errors
    /// [`ImageError::InvalidName`].
    pub fn normalize(reference: &str) -> Result<String, ImageError> {
        if reference.is_empty() || reference.contains(char::is_whitespace) {
            return Err(ImageError::InvalidName {
                reference: reference.to_owned(),
                reason: "invalid reference format".to_owned(),
            });
        }
        Ok(reference.to_owned())
    }

    /// The image of that name, or of that digest, if the store has it; sees
    /// what another process has imported meanwhile.
    ///
    /// # Errors
    /// An invalid name, or the disk.
    pub async fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        Self::normalize(reference)?;
        Ok(None)
    }

    /// Fetches the image from its registry and unpacks it, unless all of its
    /// content is here. Pulls of one reference at the same time share one
    /// download. Credentials are tried in order, none at all last.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn pull(&self, reference: &str, credentials: &[Credentials]) -> Result<Image, ImageError> {
        Self::normalize(reference)?;
        let _ = credentials;
        unbuilt("pulling an image")
    }

    /// Reads an OCI archive, a docker archive, a root file system tar or a
    /// `.wasm` file into the store.
    ///
    /// # Errors
    /// When the file is none of these, or damaged.
    pub async fn import(&self, source: &Path, options: ImportOptions) -> Result<Vec<Image>, ImageError> {
        let _ = (source, options);
        unbuilt("importing an image")
    }

    /// Every image, in the order of their first references.
    ///
    /// # Errors
    /// The disk.
    pub async fn list(&self) -> Result<Vec<Image>, ImageError> {
        Ok(Vec::new())
    }

    /// Forgets a reference, and the image's content with its last one.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// The disk.
    pub async fn remove(&self, reference: &str) -> Result<bool, ImageError> {
        let _ = reference;
        unbuilt("removing an image")
    }

    /// Drops content that no reference and none of the manifest digests in
    /// `keep` needs; returns the bytes freed.
    ///
    /// # Errors
    /// The disk.
    pub async fn collect(&self, keep: &[String]) -> Result<u64, ImageError> {
        let _ = keep;
        unbuilt("collecting images")
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }
}
