//! Reads images from files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::assemble::{Parts, WASM_MAGIC, assemble, keep_module};
use super::manifest::{Descriptor, Manifest, hex};
use super::{Image, ImageConfig, ImageError, ImportOptions, disk, layers, pull, records};

/// Annotations by which tools name the images of an OCI archive.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Reads whatever `source` is.
pub(super) fn import(dir: &Path, source: &Path, options: &ImportOptions) -> Result<Vec<Image>, ImageError> {
    let mut head = [0; 4];
    let mut file = File::open(source).map_err(disk("opening the file"))?;
    let n = file.read(&mut head).map_err(disk("reading the file"))?;
    if n == 4 && head == *WASM_MAGIC {
        return module(dir, source, options).map(|image| vec![image]);
    }
    let temp = layers::temporary(dir, "import")?;
    fs::create_dir_all(&temp).map_err(disk("making a temporary folder"))?;
    let result = archive(dir, source, options, &temp);
    let _ = fs::remove_dir_all(&temp);
    result
}

fn required_name(options: &ImportOptions, what: &str) -> Result<String, ImageError> {
    match &options.name {
        Some(name) => pull::parse(name).map(|parsed| parsed.whole()),
        None => Err(ImageError::Unusable(format!(
            "{what} carries no name: give it one with --name"
        ))),
    }
}

/// A bare Wasm program.
fn module(dir: &Path, source: &Path, options: &ImportOptions) -> Result<Image, ImageError> {
    let name = required_name(options, "a .wasm file")?;
    let kind = keep_module(dir, source)?;
    let digest = layers::digest_of(source)?;
    records::add(
        dir,
        Image {
            references: vec![name],
            digest: digest.clone(),
            id: digest,
            size_bytes: layers::size(source),
            config: ImageConfig {
                entrypoint: options.entrypoint.clone(),
                ..ImageConfig::default()
            },
            kind,
        },
    )
}

/// An archive: which kind shows in the files at its top.
fn archive(
    dir: &Path,
    source: &Path,
    options: &ImportOptions,
    temp: &Path,
) -> Result<Vec<Image>, ImageError> {
    let kind = peek(source)?;
    if kind == Kind::RootFs {
        return root_fs(dir, source, options).map(|image| vec![image]);
    }
    extract(source, temp)?;
    match kind {
        Kind::Oci => oci(dir, options, temp),
        _ => docker(dir, options, temp),
    }
}

#[derive(PartialEq)]
enum Kind {
    Oci,
    Docker,
    RootFs,
}

fn entries(source: &Path) -> Result<tar::Archive<Box<dyn Read>>, ImageError> {
    let file = File::open(source).map_err(disk("opening the file"))?;
    Ok(tar::Archive::new(layers::decompressed(file)?))
}

fn broken(error: std::io::Error) -> ImageError {
    ImageError::Unusable(format!(
        "not an image, a root file system tar or a .wasm file: {error}"
    ))
}

fn peek(source: &Path) -> Result<Kind, ImageError> {
    let mut names = Vec::new();
    for entry in entries(source)?.entries().map_err(broken)? {
        let path = entry.map_err(broken)?.path().map_err(broken)?.into_owned();
        names.push(
            path.components()
                .filter(|c| *c != Component::CurDir)
                .collect::<PathBuf>(),
        );
    }
    if names.is_empty() {
        return Err(ImageError::Unusable("the archive is empty".to_owned()));
    }
    let has = |name: &str| names.iter().any(|path| path == Path::new(name));
    Ok(
        match (has("oci-layout") && has("index.json"), has("manifest.json")) {
            (true, _) => Kind::Oci,
            (_, true) => Kind::Docker,
            _ => Kind::RootFs,
        },
    )
}

/// Copies the plain files of an image archive to `temp`; links (docker's old
/// archives have them) are resolved within it by [`inside`].
fn extract(source: &Path, temp: &Path) -> Result<(), ImageError> {
    let mut archive = entries(source)?;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        // Skips names that would leave the folder.
        entry.unpack_in(temp).map_err(broken)?;
    }
    Ok(())
}

/// A file of the archive by its name, which the archive's own documents give.
fn inside(temp: &Path, name: &str) -> Result<PathBuf, ImageError> {
    let missing = || ImageError::Unusable(format!("the archive lacks {name:?}"));
    let path = temp.join(name).canonicalize().map_err(|_| missing())?;
    let root = temp.canonicalize().map_err(disk("reading the archive"))?;
    if path.starts_with(root) {
        Ok(path)
    } else {
        Err(missing())
    }
}

fn blob(temp: &Path, at: &Descriptor) -> Result<PathBuf, ImageError> {
    let path = inside(temp, &format!("blobs/sha256/{}", hex(&at.digest)?))?;
    let found = layers::digest_of(&path)?;
    if found != at.digest {
        return Err(ImageError::Unusable(format!(
            "content has digest {found}, expected {}",
            at.digest
        )));
    }
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(disk("reading the archive"))
}

fn oci(dir: &Path, options: &ImportOptions, temp: &Path) -> Result<Vec<Image>, ImageError> {
    let index = Manifest::parse(&read(&inside(temp, "index.json")?)?)?;
    let mut images = Vec::new();
    for top in &index.manifests {
        let name = match &options.name {
            Some(name) if index.manifests.len() == 1 => Some(name.clone()),
            _ => NAMES.iter().find_map(|key| top.annotations.get(*key).cloned()),
        };
        let name =
            name.ok_or_else(|| ImageError::Unusable("the archive names no image: give --name".to_owned()))?;
        let mut manifest = Manifest::parse(&read(&blob(temp, top)?)?)?;
        if manifest.is_index() {
            let chosen = manifest.choose()?.clone();
            manifest = Manifest::parse(&read(&blob(temp, &chosen)?)?)?;
        }
        let config_at = manifest
            .config
            .clone()
            .ok_or_else(|| ImageError::Unusable("manifest without a configuration".to_owned()))?;
        let wanted: Vec<Descriptor> = match manifest.wasm_layer() {
            Some(layer) => vec![layer.clone()],
            None => manifest.layers.clone(),
        };
        let layers = wanted
            .iter()
            .map(|layer| blob(temp, layer))
            .collect::<Result<_, _>>()?;
        images.push(assemble(
            dir,
            Parts {
                digest: top.digest.clone(),
                config: read(&blob(temp, &config_at)?)?,
                config_digest: config_at.digest,
                manifest,
                layers,
                references: vec![pull::parse(&name)?.whole()],
            },
        )?);
    }
    if images.is_empty() {
        return Err(ImageError::Unusable("the archive holds no image".to_owned()));
    }
    Ok(images)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker(dir: &Path, options: &ImportOptions, temp: &Path) -> Result<Vec<Image>, ImageError> {
    let bytes = read(&inside(temp, "manifest.json")?)?;
    let listed: Vec<DockerEntry> = serde_json::from_slice(&bytes)
        .map_err(|error| ImageError::Unusable(format!("malformed manifest.json: {error}")))?;
    let mut images = Vec::new();
    for entry in &listed {
        let names = match &options.name {
            Some(name) if listed.len() == 1 => vec![name.clone()],
            _ => entry.repo_tags.clone().unwrap_or_default(),
        };
        if names.is_empty() {
            return Err(ImageError::Unusable(
                "the archive names no image: give --name".to_owned(),
            ));
        }
        let references = names
            .iter()
            .map(|n| pull::parse(n).map(|p| p.whole()))
            .collect::<Result<_, _>>()?;
        let config = read(&inside(temp, &entry.config)?)?;
        let config_digest = format!("sha256:{:x}", Sha256::digest(&config));
        let layers = entry
            .layers
            .iter()
            .map(|name| inside(temp, name))
            .collect::<Result<Vec<_>, _>>()?;
        images.push(assemble(
            dir,
            Parts {
                // Such an archive has no manifest of its own; its configuration pins all content.
                digest: config_digest.clone(),
                manifest: Manifest::default(),
                config_digest,
                config,
                layers,
                references,
            },
        )?);
    }
    Ok(images)
}

/// A plain root file system: an image of one layer.
fn root_fs(dir: &Path, source: &Path, options: &ImportOptions) -> Result<Image, ImageError> {
    let name = required_name(options, "a root file system")?;
    let diff_id = layers::add(dir, source, None)?;
    let config = json!({
        "os": "linux",
        "config": {"Entrypoint": options.entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
    .to_string()
    .into_bytes();
    let digest = format!("sha256:{:x}", Sha256::digest(&config));
    let manifest = Manifest {
        annotations: BTreeMap::new(),
        ..Manifest::default()
    };
    assemble(
        dir,
        Parts {
            digest: digest.clone(),
            manifest,
            config_digest: digest,
            config,
            layers: vec![source.to_owned()],
            references: vec![name],
        },
    )
}
