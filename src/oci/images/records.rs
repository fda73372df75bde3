//! What the store has, on disk: one file of records, the content beside it.
//!
//! ```text
//! images.json        the records, replaced as a whole under `lock`
//! lock               held by whoever changes records or removes content
//! layers/DIFF_ID/    unpacked layers, ready to be stacked
//! modules/DIGEST     Wasm programs
//! in-use/CONTAINER   digest of the image a container runs from
//! tmp/               what is being fetched
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Image, ImageError, ImageKind, disk, layers};

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
    for sub in ["layers", "modules", "in-use", "tmp"] {
        fs::create_dir_all(dir.join(sub)).map_err(disk("making the image folder"))?;
    }
    Ok(())
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
    let lock = File::create(dir.join("lock")).map_err(disk("locking the images"))?;
    lock.lock().map_err(disk("locking the images"))?;
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

/// Adds an image, or its references to the record of the same manifest; a
/// reference points to one image only, the newest.
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
        }
        records.push(merged.clone());
        merged
    })
}

/// Removes what nothing needs; returns the bytes freed.
pub(super) fn collect(dir: &Path, keep: &[String]) -> Result<u64, ImageError> {
    change(dir, |records| {
        let in_use: BTreeSet<String> = fs::read_dir(dir.join("in-use"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect();
        records.retain(|image| {
            !image.references.is_empty() || keep.contains(&image.digest) || in_use.contains(&image.digest)
        });
        let mut needed = BTreeSet::new();
        for image in records.iter() {
            match &image.kind {
                ImageKind::Oci { layers } => {
                    needed.extend(layers.iter().map(|diff_id| layers::path(dir, diff_id)));
                }
                ImageKind::Wasm { module, .. } => {
                    needed.insert(module.clone());
                }
            }
        }
        let mut freed = 0;
        for sub in ["layers", "modules"] {
            for entry in fs::read_dir(dir.join(sub)).into_iter().flatten().flatten() {
                if !needed.contains(&entry.path()) {
                    freed += remove(&entry.path());
                }
            }
        }
        freed
    })
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
