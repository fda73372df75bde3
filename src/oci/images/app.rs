//! Applications of several Wasm components behind one HTTP server, as Spin
//! packages them: a locked application (`spin.lock`) as configuration or as a
//! layer, a layer per component, and static files as layers or archives.

mod locked;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::lease::Lease;
use super::limits::Budget;
use super::manifest::{Descriptor, Manifest, hex};
use super::{AppComponent, ImageError, ImageKind, assemble, disk, layers, places, unpack};
pub(super) use locked::LockedApp;

/// The type of a locked application, be it the configuration or a layer.
const LOCKED: &str = "application/vnd.fermyon.spin.application.v1+config";
/// The type of an archive of static files.
const ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
/// Set on a layer of two bytes that stands for an empty file.
const IS_EMPTY: &str = "com.fermyon.spin.application.layer.isEmpty";

/// The descriptor of the locked application, if the image is one.
pub(super) fn locked_at(manifest: &Manifest) -> Option<&Descriptor> {
    let mut all = manifest.config.iter().chain(&manifest.layers);
    all.find(|at| at.media_type == LOCKED)
}

/// Content of an application's layers by digest, as it was fetched.
pub(super) type Blobs<'a> = &'a dyn Fn(&Descriptor) -> Result<PathBuf, ImageError>;

/// Puts an application's programs and files in place. `blob` gives the file of a layer.
pub(super) fn keep(
    dir: &Path,
    manifest: &Manifest,
    locked_digest: &str,
    app: &LockedApp,
    blob: Blobs<'_>,
    lease: &Lease,
) -> Result<ImageKind, ImageError> {
    lease.hold(locked_digest)?;
    let temp = places::temporary(dir, "app")?;
    let place = dir.join("apps").join(hex(locked_digest)?);
    let made = make(dir, manifest, app, blob, lease, &temp, &place);
    if made.is_ok() && !place.is_dir() && temp.join("files").is_dir() {
        let kept = fs::rename(temp.join("files"), &place);
        kept.or_else(|error| if place.is_dir() { Ok(()) } else { Err(error) })
            .map_err(disk("keeping an application's files"))?;
    }
    let _ = fs::remove_dir_all(&temp);
    made.map(|components| ImageKind::App { components })
}

fn make(
    dir: &Path,
    manifest: &Manifest,
    app: &LockedApp,
    blob: Blobs<'_>,
    lease: &Lease,
    temp: &Path,
    place: &Path,
) -> Result<Vec<AppComponent>, ImageError> {
    let contents = Contents::gather(manifest, blob, temp)?;
    let routes = app.routes()?;
    let mut components = Vec::new();
    for (number, locked) in app.components.iter().enumerate() {
        let own: Vec<String> = routes
            .iter()
            .filter(|(id, _)| *id == locked.id)
            .map(|(_, r)| r.clone())
            .collect();
        if own.is_empty() {
            // Reached by other components only, which is refused where it is needed.
            continue;
        }
        let digest = locked.program()?;
        lease.hold(digest)?;
        let (module, digest) = assemble::keep_module(dir, &contents.file(digest)?)?;
        let folder = number.to_string();
        for file in &locked.files {
            contents.write(file, &temp.join("files").join(&folder))?;
        }
        components.push(AppComponent {
            id: locked.id.clone(),
            module,
            digest,
            routes: own,
            env: locked.env.clone(),
            files: (!locked.files.is_empty()).then(|| place.join(&folder)),
            allowed_outbound_hosts: app.allowed_outbound_hosts(locked)?,
        });
    }
    if components.is_empty() {
        return Err(ImageError::Unusable(
            "the application has no component with an HTTP route".to_owned(),
        ));
    }
    Ok(components)
}

/// What the layers hold, by digest.
struct Contents(BTreeMap<String, PathBuf>);

impl Contents {
    fn gather(manifest: &Manifest, blob: Blobs<'_>, temp: &Path) -> Result<Contents, ImageError> {
        fs::create_dir_all(temp).map_err(disk("unpacking an application"))?;
        let mut files = BTreeMap::new();
        for (number, layer) in manifest
            .layers
            .iter()
            .enumerate()
            .filter(|(_, l)| l.media_type != LOCKED)
        {
            let mut path = blob(layer)?;
            if layer.annotation(IS_EMPTY).is_some_and(|value| value == "true") {
                path = temp.join("empty");
                fs::write(&path, "").map_err(disk("unpacking an application"))?;
            }
            if layer.media_type == ARCHIVE {
                let folder = temp.join(format!("archive-{number}"));
                fs::create_dir(&folder).map_err(disk("unpacking an application"))?;
                let mut budget = Budget::of(temp, layer.size)?;
                unpack::unpack(
                    &mut layers::decompressed(layers::open(&path)?)?,
                    &folder,
                    &mut budget,
                )?;
                add_files(&folder, &mut files)?;
            } else {
                files.insert(layer.digest.clone(), path);
            }
        }
        Ok(Contents(files))
    }

    fn file(&self, digest: &str) -> Result<PathBuf, ImageError> {
        let found = self.0.get(digest).cloned();
        found.ok_or_else(|| ImageError::Unusable(format!("the application's layers lack {digest}")))
    }

    fn write(&self, file: &locked::File, folder: &Path) -> Result<(), ImageError> {
        let name = Path::new(file.path.trim_start_matches('/'));
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.as_os_str().is_empty() {
            let text = format!("the application's file {:?} has no path within it", file.path);
            return Err(ImageError::Unusable(text));
        }
        let path = folder.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(folder));
        written.map_err(disk("unpacking an application"))?;
        match &file.inline {
            Some(text) => {
                let bytes = STANDARD.decode(text);
                let bytes =
                    bytes.map_err(|error| ImageError::Unusable(format!("{:?}: {error}", file.path)))?;
                fs::write(&path, bytes).map_err(disk("unpacking an application"))
            }
            None => {
                let from = self.file(file.digest.as_deref().unwrap_or_default())?;
                fs::copy(from, &path)
                    .map(drop)
                    .map_err(disk("unpacking an application"))
            }
        }
    }
}

/// Adds the plain files below a folder under their digests. Links are not followed.
fn add_files(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    for entry in fs::read_dir(folder)
        .map_err(disk("reading an application's files"))?
        .flatten()
    {
        let kind = entry
            .file_type()
            .map_err(disk("reading an application's files"))?;
        if kind.is_dir() {
            add_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.insert(layers::digest_of(layers::open(&entry.path())?)?, entry.path());
        }
    }
    Ok(())
}
