//! Makes an image of its parts: decides what it is and records it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::manifest::{self, Configuration, Manifest};
use super::{Image, ImageConfig, ImageError, ImageKind, Voucher, disk, layers, places, records};

/// First bytes of every WebAssembly binary.
pub(super) const WASM_MAGIC: &[u8; 4] = b"\0asm";

/// What an image is called, whatever it is.
pub(super) struct Names {
    /// Digest of the manifest.
    pub(super) digest: String,
    /// Digest of the configuration.
    pub(super) id: String,
    /// The references it is to be known by.
    pub(super) references: Vec<String>,
    /// Bytes of its content as registries keep it.
    pub(super) size_bytes: u64,
}

/// Records an image whose content is in place, who answers for it, and who has pulled it. All of
/// it reaches the disk first: what is recorded is whole, whenever the power fails.
pub(super) fn record(
    dir: &Path,
    names: Names,
    vouchers: Vec<Voucher>,
    pulled_by: BTreeMap<String, Vec<String>>,
    kind: ImageKind,
    config: ImageConfig,
) -> Result<Image, ImageError> {
    let folder = fs::File::open(dir).map_err(disk("keeping an image"))?;
    nix::unistd::syncfs(&folder).map_err(|error| disk("keeping an image")(error.into()))?;
    records::add(
        dir,
        Image {
            references: names.references,
            digest: names.digest,
            id: names.id,
            size_bytes: names.size_bytes,
            config,
            kind,
            vouchers,
            pulled_by,
        },
    )
}

/// What an image of unpacked layers is: a root file system, unless what it
/// starts is a Wasm program.
pub(super) fn of_layers(
    dir: &Path,
    manifest: &Manifest,
    configuration: &Configuration,
) -> Result<(ImageKind, ImageConfig), ImageError> {
    let diff_ids = &configuration.rootfs.diff_ids;
    let config = configuration.process();
    let said = configuration.platform.is_wasm() || manifest::annotated_as_wasm(manifest.annotations.as_ref());
    let program = config.entrypoint.first().or(config.cmd.first());
    let found = program.and_then(|path| find_in_layers(dir, diff_ids, Path::new(path)));
    match found {
        Some(path) if starts_with_magic(&path) => {
            let (module, digest) = keep_module(dir, &path)?;
            Ok((ImageKind::Wasm { module, digest }, config))
        }
        _ if said => Err(ImageError::Unusable(format!(
            "image says that it holds a Wasm program, but its entrypoint {:?} is none",
            program.map(String::as_str).unwrap_or_default()
        ))),
        _ => {
            let layers = diff_ids.clone();
            Ok((ImageKind::Oci { layers }, config))
        }
    }
}

/// What a Wasm artifact says about running it: its configuration is mostly not
/// an image's; where it is one, it may name arguments.
pub(super) fn config_of_artifact(config: &[u8]) -> ImageConfig {
    Configuration::parse(config)
        .map(|c| c.process())
        .unwrap_or_default()
}

/// The topmost file of that path. Links are not followed: a Wasm program is a plain file.
fn find_in_layers(dir: &Path, diff_ids: &[String], path: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let parts = path.components().filter(|c| matches!(c, Component::Normal(_)));
    let relative: PathBuf = parts.collect();
    let mut places = diff_ids
        .iter()
        .rev()
        .map(|id| places::layer(dir, id).join(&relative));
    places.find(|file| {
        // Every part must be real: a link in a layer could lead out of it.
        file.canonicalize().is_ok_and(|real| real == *file) && file.is_file()
    })
}

fn starts_with_magic(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *WASM_MAGIC
}

/// Copies a Wasm program into the store, under its digest; its place and that digest.
pub(super) fn keep_module(dir: &Path, program: &Path) -> Result<(PathBuf, String), ImageError> {
    if !starts_with_magic(program) {
        return Err(ImageError::Unusable(
            "the Wasm layer does not begin with a Wasm module's magic number".into(),
        ));
    }
    let digest = layers::digest_of(layers::open(program)?)?;
    let module = dir.join("modules").join(manifest::hex(&digest)?);
    if !module.is_file() {
        let temp = places::temporary(dir, "module")?;
        let copied = fs::copy(program, &temp).and_then(|_| fs::rename(&temp, &module));
        if let Err(error) = copied {
            let _ = fs::remove_file(&temp);
            return Err(disk("keeping a Wasm program")(error));
        }
    }
    Ok((module, digest))
}
