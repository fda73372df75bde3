//! Makes an image of its parts: decides what it is and puts its content in place.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::manifest::{self, Configuration, Manifest};
use super::{Image, ImageConfig, ImageError, ImageKind, disk, layers, records};

/// First bytes of every WebAssembly binary.
pub(super) const WASM_MAGIC: &[u8; 4] = b"\0asm";

/// An image's parts, all here.
pub(super) struct Parts {
    /// Digest of the manifest.
    pub(super) digest: String,
    pub(super) manifest: Manifest,
    /// Digest of the configuration.
    pub(super) config_digest: String,
    /// The configuration's bytes.
    pub(super) config: Vec<u8>,
    /// The layers' archives, lowest first; for a Wasm artifact, the program alone.
    pub(super) layers: Vec<PathBuf>,
    /// The references it is to be known by.
    pub(super) references: Vec<String>,
}

/// Puts the content in place and records the image.
pub(super) fn assemble(dir: &Path, parts: Parts) -> Result<Image, ImageError> {
    let (kind, config) = if parts.manifest.wasm_layer().is_some() {
        let program = parts
            .layers
            .first()
            .ok_or_else(|| ImageError::Unusable("image without layers".into()))?;
        // A Wasm artifact's configuration is not an image's; where it is one, it may still name arguments.
        let config = Configuration::parse(&parts.config)
            .map(|c| c.process())
            .unwrap_or_default();
        (keep_module(dir, program)?, config)
    } else {
        ordinary(dir, &parts)?
    };
    let size_bytes = match &kind {
        ImageKind::Oci { layers } => layers.iter().map(|id| layers::size(&layers::path(dir, id))).sum(),
        ImageKind::Wasm { module, .. } => layers::size(module),
    };
    records::add(
        dir,
        Image {
            references: parts.references,
            digest: parts.digest,
            id: parts.config_digest,
            size_bytes,
            config,
            kind,
        },
    )
}

/// An image of layers: a root file system, unless what it starts is a Wasm program.
fn ordinary(dir: &Path, parts: &Parts) -> Result<(ImageKind, ImageConfig), ImageError> {
    let configuration = Configuration::parse(&parts.config)?;
    let diff_ids = &configuration.rootfs.diff_ids;
    if diff_ids.len() != parts.layers.len() {
        return Err(ImageError::Unusable(format!(
            "image has {} layers, its configuration names {}",
            parts.layers.len(),
            diff_ids.len()
        )));
    }
    for (archive, diff_id) in parts.layers.iter().zip(diff_ids) {
        layers::add(dir, archive, Some(diff_id))?;
    }
    let config = configuration.process();
    let said = configuration.platform.is_wasm() || manifest::annotated_as_wasm(&parts.manifest.annotations);
    let program = config.entrypoint.first().or(config.cmd.first());
    let found = program.and_then(|path| find_in_layers(dir, diff_ids, Path::new(path)));
    match found {
        Some(path) if starts_with_magic(&path) => Ok((keep_module(dir, &path)?, config)),
        _ if said => Err(ImageError::Unusable(format!(
            "image says that it holds a Wasm program, but its entrypoint {:?} is none",
            program.map(String::as_str).unwrap_or_default()
        ))),
        _ => Ok((
            ImageKind::Oci {
                layers: diff_ids.clone(),
            },
            config,
        )),
    }
}

/// The topmost file of that path. Links are not followed: a Wasm program is a plain file.
fn find_in_layers(dir: &Path, diff_ids: &[String], path: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let relative: PathBuf = path
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect();
    diff_ids
        .iter()
        .rev()
        .map(|id| layers::path(dir, id).join(&relative))
        .find(|file| {
            // Every part must be real: a link in a layer could lead out of it.
            file.canonicalize().is_ok_and(|real| real == *file) && file.is_file()
        })
}

fn starts_with_magic(path: &Path) -> bool {
    let mut head = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .is_ok()
        && head == *WASM_MAGIC
}

/// Copies a Wasm program into the store, under its digest.
pub(super) fn keep_module(dir: &Path, program: &Path) -> Result<ImageKind, ImageError> {
    if !starts_with_magic(program) {
        return Err(ImageError::Unusable(
            "the Wasm layer does not begin with a Wasm module's magic number".into(),
        ));
    }
    let digest = layers::digest_of(program)?;
    let module = dir.join("modules").join(manifest::hex(&digest)?);
    if !module.is_file() {
        let temp = layers::temporary(dir, "module")?;
        fs::copy(program, &temp).map_err(disk("keeping a Wasm program"))?;
        fs::File::open(&temp)
            .and_then(|f| f.sync_all())
            .map_err(disk("keeping a Wasm program"))?;
        fs::rename(&temp, &module).map_err(disk("keeping a Wasm program"))?;
    }
    Ok(ImageKind::Wasm { module, digest })
}
