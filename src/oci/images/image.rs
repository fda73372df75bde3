//! Images of the store, and how they are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::places;
use super::trust::Voucher;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// An application of WebAssembly components behind one HTTP server.
    App {
        /// Its components; each has a route at least.
        components: Vec<AppComponent>,
    },
}

impl ImageKind {
    /// Whether it runs as WebAssembly.
    pub fn is_wasm(&self) -> bool {
        !matches!(self, ImageKind::Oci { .. })
    }

    /// The files and folders of the store that it needs.
    pub(super) fn content(&self, dir: &Path) -> Vec<PathBuf> {
        match self {
            ImageKind::Oci { layers } => layers.iter().map(|diff_id| places::layer(dir, diff_id)).collect(),
            ImageKind::Wasm { module, .. } => vec![module.clone()],
            ImageKind::App { components } => {
                let files = components
                    .iter()
                    .filter_map(|c| c.files.as_deref().and_then(Path::parent));
                let modules = components.iter().map(|c| c.module.clone());
                modules.chain(files.map(Path::to_owned)).collect()
            }
        }
    }

    /// Digests of its WebAssembly programs.
    pub fn programs(&self) -> Vec<&str> {
        match self {
            ImageKind::Oci { .. } => Vec::new(),
            ImageKind::Wasm { digest, .. } => vec![digest],
            ImageKind::App { components } => components.iter().map(|c| c.digest.as_str()).collect(),
        }
    }
}

/// One component of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppComponent {
    /// Its name in the application.
    pub id: String,
    /// Its program's file in the store.
    pub module: PathBuf,
    /// Digest of that file.
    pub digest: String,
    /// Routes that lead to it: an exact path, or one that ends in `/...`.
    pub routes: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Folder of its static files, which it sees as `/`.
    pub files: Option<PathBuf>,
    /// Where it may connect to, in Spin's form (`https://example.com:443`); empty: nowhere.
    pub allowed_outbound_hosts: Vec<String>,
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// Who answers for it.
    #[serde(default)]
    pub vouchers: Vec<Voucher>,
    /// What was noted of those who have pulled it, by its name without tag and digest; the last comes last. Nothing of
    /// an image that was only imported.
    #[serde(default)]
    pub pulled_by: BTreeMap<String, Vec<String>>,
}

/// Notes kept of an image under one name; who is forgotten has to pull again.
const NOTES_MAX: usize = 100;

impl Image {
    /// Notes who has pulled it under that name.
    pub(super) fn note(&mut self, repository: &str, note: &str) {
        let notes = self.pulled_by.entry(repository.to_owned()).or_default();
        notes.retain(|known| known != note);
        notes.push(note.to_owned());
        let over = notes.len().saturating_sub(NOTES_MAX);
        notes.drain(..over);
    }
}
