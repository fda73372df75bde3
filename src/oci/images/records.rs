//! What the store has, on disk: one file of records, the content beside it.
//!
//! ```text
//! images.json        the records, replaced as a whole under `lock`
//! lock               held by whoever changes records or removes content
//! layers/DIFF_ID/    unpacked layers, ready to be stacked
//! modules/DIGEST     Wasm programs
//! apps/DIGEST/       static files of applications, a folder per component
//! in-use/            per container the digest of its image, per fetch what it puts in place
//! tmp/               what is being fetched
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Image, ImageError, Voucher, disk, layers, lease, manifest, places};

/// Version of `images.json`; a file of a later one is not touched.
const VERSION: u32 = 1;
const FILE: &str = "images.json";

#[derive(Serialize, Deserialize)]
struct Records {
    version: u32,
    images: Vec<Image>,
}

/// Makes the folders.
pub(super) fn prepare(dir: &Path) -> Result<(), ImageError> {
    for sub in ["layers", "modules", "apps", "in-use", "tmp"] {
        fs::create_dir_all(dir.join(sub)).map_err(disk("making the image folder"))?;
    }
    // Layers hold setuid programs and device nodes that are for containers alone.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(disk("closing the image folder"))
}

/// Every record.
pub(super) fn read(dir: &Path) -> Result<Vec<Image>, ImageError> {
    let text = match fs::read(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk("reading images.json")(error)),
    };
    let wrong = |reason: String| ImageError::Io {
        context: "reading images.json".to_owned(),
        reason,
    };
    let records: Records = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if records.version > VERSION {
        return Err(wrong(format!(
            "it has version {}, this build knows {VERSION}",
            records.version
        )));
    }
    Ok(records.images)
}

/// Changes the records, alone among all processes that use the folder.
pub(super) fn change<T>(dir: &Path, work: impl FnOnce(&mut Vec<Image>) -> T) -> Result<T, ImageError> {
    let _lock = places::lock(dir)?;
    let mut images = read(dir)?;
    let result = work(&mut images);
    write(dir, images)?;
    Ok(result)
}

fn write(dir: &Path, images: Vec<Image>) -> Result<(), ImageError> {
    let text = serde_json::to_vec_pretty(&Records {
        version: VERSION,
        images,
    })
    .map_err(|error| disk("writing images.json")(error.into()))?;
    base::files::replace(&dir.join(FILE), &text, 0o644, true).map_err(disk("writing images.json"))
}

/// Adds an image, or its references and who answers for it to the record of the
/// same manifest; a reference points to one image only, the newest.
pub(super) fn add(dir: &Path, image: Image) -> Result<Image, ImageError> {
    change(dir, |records| {
        for other in records.iter_mut().filter(|other| other.digest != image.digest) {
            other
                .references
                .retain(|reference| !image.references.contains(reference));
        }
        let found = records.iter().position(|other| other.digest == image.digest);
        let mut merged = image;
        if let Some(at) = found {
            let old = records.remove(at);
            let known = old
                .references
                .into_iter()
                .filter(|r| !merged.references.contains(r));
            let known: Vec<String> = known.collect();
            merged.references.extend(known);
            merged.references.sort();
            let vouchers = old.vouchers.into_iter().filter(|v| !merged.vouchers.contains(v));
            let vouchers: Vec<Voucher> = vouchers.collect();
            merged.vouchers.extend(vouchers);
            let new = std::mem::replace(&mut merged.pulled_by, old.pulled_by);
            for (repository, notes) in &new {
                notes.iter().for_each(|note| merged.note(repository, note));
            }
        }
        records.push(merged.clone());
        merged
    })
}

/// Removes what nothing needs; returns the bytes freed.
pub(super) fn collect(dir: &Path, keep: &[String]) -> Result<u64, ImageError> {
    change(dir, |records| {
        let in_use = in_use(dir);
        records.retain(|image| {
            !image.references.is_empty() || keep.contains(&image.digest) || in_use.contains(&image.digest)
        });
        let mut needed: BTreeSet<PathBuf> = in_use.iter().flat_map(|digest| places(dir, digest)).collect();
        needed.extend(records.iter().flat_map(|image| image.kind.content(dir)));
        let mut freed = 0;
        for sub in ["layers", "modules", "apps"] {
            for entry in fs::read_dir(dir.join(sub)).into_iter().flatten().flatten() {
                if !needed.contains(&entry.path()) {
                    freed += remove(&entry.path());
                }
            }
        }
        freed
    })
}

/// The digests, of images and of their content, that containers and fetches need.
fn in_use(dir: &Path) -> BTreeSet<String> {
    let mut digests = BTreeSet::new();
    for entry in fs::read_dir(dir.join("in-use")).into_iter().flatten().flatten() {
        if lease::is_stale(&entry.path()) {
            remove(&entry.path());
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        digests.extend(text.lines().map(str::to_owned));
    }
    digests
}

/// Where content of that digest may lie.
fn places(dir: &Path, digest: &str) -> Vec<PathBuf> {
    let Ok(hex) = manifest::hex(digest) else {
        return Vec::new();
    };
    vec![
        places::layer(dir, digest),
        dir.join("modules").join(hex),
        dir.join("apps").join(hex),
    ]
}

/// Removes a file or tree; returns its size, 0 when it could not be removed and stays for the next time.
fn remove(path: &Path) -> u64 {
    let size = layers::size(path);
    let done = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if done.is_ok() { size } else { 0 }
}
