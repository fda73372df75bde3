//! Reads images from files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::app::{self, LockedApp};
use super::assemble::{self, Names, WASM_MAGIC, keep_module};
use super::bundle::{self, Bundle, Kind};
use super::lease::Lease;
use super::manifest::{Configuration, Descriptor, INDEX_DEPTH_MAX, Manifest, check_count};
use super::{Image, ImageConfig, ImageError, ImageKind, Voucher, disk, layers, places, reference};

/// How to import a file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Reference to give the image; required for plain root file systems and
    /// `.wasm` files, else the archive's own name is used.
    pub name: Option<String>,
    /// Program and arguments, for plain root file systems.
    pub entrypoint: Vec<String>,
}

/// Annotations by which tools name the images of an OCI archive.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Reads whatever `source` is.
pub(super) fn import(dir: &Path, source: &Path, options: &ImportOptions) -> Result<Vec<Image>, ImageError> {
    let import = Import {
        dir,
        source,
        options,
        temp: places::temporary(dir, "import")?,
        lease: Lease::open(dir)?,
    };
    if is_program(source)? {
        return import.program().map(|image| vec![image]);
    }
    fs::create_dir_all(&import.temp).map_err(disk("making a temporary folder"))?;
    let result = import.archive();
    let _ = fs::remove_dir_all(&import.temp);
    result
}

fn is_program(source: &Path) -> Result<bool, ImageError> {
    if source.is_dir() {
        return Ok(false);
    }
    let mut head = [0; 4];
    let mut file = File::open(source).map_err(disk("opening the file"))?;
    let n = file.read(&mut head).map_err(disk("reading the file"))?;
    Ok(n == 4 && head == *WASM_MAGIC)
}

/// One import under way.
struct Import<'a> {
    dir: &'a Path,
    source: &'a Path,
    options: &'a ImportOptions,
    temp: PathBuf,
    lease: Lease,
}

impl Import<'_> {
    fn required_name(&self, what: &str) -> Result<String, ImageError> {
        match &self.options.name {
            Some(name) => reference::parse(name).map(|parsed| parsed.whole()),
            None => Err(ImageError::Unusable(format!(
                "{what} carries no name: give it one with --name"
            ))),
        }
    }

    /// Records what was imported: whoever did answers for it, under these names.
    fn record(&self, names: Names, kind: ImageKind, config: ImageConfig) -> Result<Image, ImageError> {
        let references = names.references.iter().cloned();
        let vouchers = references
            .map(|reference| Voucher::Import { reference })
            .collect();
        assemble::record(self.dir, names, vouchers, BTreeMap::new(), kind, config)
    }

    /// A bare Wasm program.
    fn program(&self) -> Result<Image, ImageError> {
        let name = self.required_name("a .wasm file")?;
        self.lease.hold(&layers::digest_of(layers::open(self.source)?)?)?;
        let (module, digest) = keep_module(self.dir, self.source)?;
        let names = Names {
            digest: digest.clone(),
            id: digest.clone(),
            references: vec![name],
            size_bytes: layers::size(self.source),
        };
        let config = ImageConfig {
            entrypoint: self.options.entrypoint.clone(),
            ..ImageConfig::default()
        };
        self.record(names, ImageKind::Wasm { module, digest }, config)
    }

    /// An archive or folder: which kind shows in the files at its top.
    fn archive(&self) -> Result<Vec<Image>, ImageError> {
        let (kind, bundle) = bundle::open(self.source, &self.temp.join("archive"))?;
        match kind {
            Kind::Oci => self.layout(&bundle),
            Kind::Docker => self.docker(&bundle),
            Kind::RootFs => self.root_fs().map(|image| vec![image]),
        }
    }

    fn layout(&self, bundle: &Bundle) -> Result<Vec<Image>, ImageError> {
        let index = Manifest::parse(&bundle.document("index.json")?)?;
        let mut images = Vec::new();
        for top in &index.manifests {
            let name = match &self.options.name {
                Some(name) if index.manifests.len() == 1 => Some(name),
                _ => NAMES.iter().find_map(|key| top.annotation(key)),
            };
            let name = name
                .ok_or_else(|| ImageError::Unusable("the archive names no image: give --name".to_owned()))?;
            let manifest = choose(bundle, top)?;
            let config_at = manifest.config()?;
            let names = Names {
                digest: top.digest.clone(),
                id: config_at.digest.clone(),
                references: vec![reference::parse(name)?.whole()],
                size_bytes: manifest.bytes(),
            };
            let (kind, config) = self.content(bundle, &manifest, bundle.document_at(config_at)?)?;
            images.push(self.record(names, kind, config)?);
        }
        if images.is_empty() {
            return Err(ImageError::Unusable("the archive holds no image".to_owned()));
        }
        Ok(images)
    }

    fn content(
        &self,
        bundle: &Bundle,
        manifest: &Manifest,
        config: Vec<u8>,
    ) -> Result<(ImageKind, ImageConfig), ImageError> {
        let file = |at: &Descriptor| bundle.file_at(at, &self.temp.join("blobs"));
        if let Some(at) = app::locked_at(manifest) {
            let app = LockedApp::parse(&bundle.document_at(at)?)?;
            let kind = app::keep(self.dir, manifest, &at.digest, &app, &file, &self.lease)?;
            return Ok((kind, ImageConfig::default()));
        }
        if let Some(layer) = manifest.wasm_layer() {
            self.lease.hold(&layer.digest)?;
            let (module, digest) = keep_module(self.dir, &file(layer)?)?;
            return Ok((
                ImageKind::Wasm { module, digest },
                assemble::config_of_artifact(&config),
            ));
        }
        let configuration = Configuration::parse(&config)?;
        manifest.check_layers(&configuration.rootfs.diff_ids)?;
        for (at, diff_id) in manifest.layers.iter().zip(&configuration.rootfs.diff_ids) {
            let (archive, size) = bundle.blob(at)?;
            layers::add(self.dir, archive, size, Some(diff_id), &self.lease)?;
        }
        assemble::of_layers(self.dir, manifest, &configuration)
    }

    fn docker(&self, bundle: &Bundle) -> Result<Vec<Image>, ImageError> {
        let listed: Vec<DockerEntry> = serde_json::from_slice(&bundle.document("manifest.json")?)
            .map_err(|error| ImageError::Unusable(format!("malformed manifest.json: {error}")))?;
        let mut images = Vec::new();
        for entry in &listed {
            let tags = match &self.options.name {
                Some(name) if listed.len() == 1 => vec![name.clone()],
                _ => entry.repo_tags.clone().unwrap_or_default(),
            };
            if tags.is_empty() {
                return Err(ImageError::Unusable(
                    "the archive names no image: give --name".to_owned(),
                ));
            }
            let references = tags
                .iter()
                .map(|tag| reference::parse(tag).map(|parsed| parsed.whole()));
            images.push(self.docker_image(bundle, entry, references.collect::<Result<_, _>>()?)?);
        }
        Ok(images)
    }

    fn docker_image(
        &self,
        bundle: &Bundle,
        entry: &DockerEntry,
        references: Vec<String>,
    ) -> Result<Image, ImageError> {
        let config = bundle.document(&entry.config)?;
        let configuration = Configuration::parse(&config)?;
        let diff_ids = &configuration.rootfs.diff_ids;
        check_count(entry.layers.len(), diff_ids.len())?;
        let mut size_bytes = config.len() as u64;
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            let (archive, size) = bundle.open(name)?;
            layers::add(self.dir, archive, size, Some(diff_id), &self.lease)?;
            size_bytes += size;
        }
        let (kind, process) = assemble::of_layers(self.dir, &Manifest::default(), &configuration)?;
        // Such an archive has no manifest of its own; its configuration pins all content.
        let digest = layers::digest_of(&config[..])?;
        let names = Names {
            id: digest.clone(),
            digest,
            references,
            size_bytes,
        };
        self.record(names, kind, process)
    }

    /// A plain root file system: an image of one layer.
    fn root_fs(&self) -> Result<Image, ImageError> {
        let name = self.required_name("a root file system")?;
        let size_bytes = layers::size(self.source);
        let diff_id = layers::add(
            self.dir,
            layers::open(self.source)?,
            size_bytes,
            None,
            &self.lease,
        )?;
        let config = json!({
            "os": "linux",
            "config": {"Entrypoint": self.options.entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = config.to_string().into_bytes();
        let digest = layers::digest_of(&config[..])?;
        let names = Names {
            digest: digest.clone(),
            id: digest,
            references: vec![name],
            size_bytes,
        };
        let configuration = Configuration::parse(&config)?;
        let (kind, process) = assemble::of_layers(self.dir, &Manifest::default(), &configuration)?;
        self.record(names, kind, process)
    }
}

/// Descends from indexes to the manifest that runs here.
fn choose(bundle: &Bundle, top: &Descriptor) -> Result<Manifest, ImageError> {
    let mut manifest = Manifest::parse(&bundle.document_at(top)?)?;
    for _ in 0..INDEX_DEPTH_MAX {
        if !manifest.is_index() {
            return Ok(manifest);
        }
        manifest = Manifest::parse(&bundle.document_at(manifest.choose()?)?)?;
    }
    Err(ImageError::Unusable(format!(
        "indexes lie within one another more than {INDEX_DEPTH_MAX} deep"
    )))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}
