//! An image in files of this machine: an OCI layout's folder, or a tar archive
//! that is read in place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::layers::{self, Hashing};
use super::limits::{self, Budget};
use super::manifest::{DOCUMENT_BYTES_MAX, Descriptor, hex};
use super::{ImageError, disk};

/// Files of an archive that is an image; a root file system may have more, and is not indexed.
const ENTRIES_MAX: usize = 100_000;
/// Symbolic links from one to the next (docker's old archives have them).
const LINKS_MAX: usize = 8;

/// Named files, wherever they lie.
pub(super) enum Bundle {
    /// In a folder.
    Folder(PathBuf),
    /// In an archive without compression.
    Archive(Archive),
}

/// An archive's plain files by their names.
#[derive(Default)]
pub(super) struct Archive {
    file: Option<Arc<File>>,
    /// Offset and size.
    files: BTreeMap<PathBuf, (u64, u64)>,
    links: BTreeMap<PathBuf, PathBuf>,
}

/// What an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
    /// Anything else is a root file system.
    RootFs,
}

pub(super) fn broken(error: io::Error) -> ImageError {
    ImageError::Unusable(format!(
        "not an image, a root file system tar or a .wasm file: {error}"
    ))
}

/// Opens what `source` holds. A compressed archive of an image is unpacked to
/// `temp` first; of a root file system only the kind is told.
pub(super) fn open(source: &Path, temp: &Path) -> Result<(Kind, Bundle), ImageError> {
    if source.is_dir() {
        let bundle = Bundle::Folder(source.to_owned());
        let kind = bundle.kind();
        if kind == Kind::RootFs {
            return Err(ImageError::Unusable(
                "the folder is no OCI image layout: it has no oci-layout and index.json".to_owned(),
            ));
        }
        return Ok((kind, bundle));
    }
    let file = File::open(source).map_err(disk("opening the file"))?;
    if !is_compressed(&file)? {
        let bundle = Bundle::Archive(index(file)?);
        return Ok((bundle.kind(), bundle));
    }
    let names = names(&file)?;
    let has = |name: &str| names.iter().any(|path| path == Path::new(name));
    let kind = kind(&has);
    if kind == Kind::RootFs {
        return Ok((kind, Bundle::Archive(Archive::default())));
    }
    let bytes = file.metadata().map_err(disk("reading the file"))?.len();
    decompress(source, bytes, temp)?;
    let file = File::open(temp).map_err(disk("reading the archive"))?;
    Ok((kind, Bundle::Archive(index(file)?)))
}

fn is_compressed(file: &File) -> Result<bool, ImageError> {
    let mut head = [0; 4];
    let n = file.read_at(&mut head, 0).map_err(disk("reading the file"))?;
    Ok(n == 4 && (head.starts_with(&[0x1f, 0x8b]) || head == [0x28, 0xb5, 0x2f, 0xfd]))
}

fn decompress(source: &Path, bytes: u64, temp: &Path) -> Result<(), ImageError> {
    let dir = temp.parent().unwrap_or(Path::new("."));
    let mut budget = Budget::of(dir, bytes)?;
    let mut reader = layers::decompressed(layers::open(source)?)?;
    let mut file = File::create(temp).map_err(disk("unpacking the archive"))?;
    let mut buffer = vec![0; limits::BUFFER_BYTES];
    loop {
        let n = reader.read(&mut buffer).map_err(broken)?;
        let Some(read) = buffer.get(..n).filter(|read| !read.is_empty()) else {
            return Ok(());
        };
        budget.spend(n as u64)?;
        io::Write::write_all(&mut file, read).map_err(disk("unpacking the archive"))?;
    }
}

/// The names in a compressed archive.
fn names(file: &File) -> Result<Vec<PathBuf>, ImageError> {
    let file = file.try_clone().map_err(disk("reading the file"))?;
    let mut archive = tar::Archive::new(layers::decompressed(file)?);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(broken)?.take(ENTRIES_MAX) {
        names.push(plain(&entry.map_err(broken)?.path().map_err(broken)?));
    }
    if names.is_empty() {
        return Err(ImageError::Unusable("the archive is empty".to_owned()));
    }
    Ok(names)
}

fn kind(has: &dyn Fn(&str) -> bool) -> Kind {
    match (has("oci-layout") && has("index.json"), has("manifest.json")) {
        (true, _) => Kind::Oci,
        (_, true) => Kind::Docker,
        _ => Kind::RootFs,
    }
}

fn plain(path: &Path) -> PathBuf {
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.collect()
}

fn index(file: File) -> Result<Archive, ImageError> {
    let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
    let mut archive = tar::Archive::new(&file);
    for entry in archive.entries_with_seek().map_err(broken)?.take(ENTRIES_MAX) {
        let entry = entry.map_err(broken)?;
        let path = plain(&entry.path().map_err(broken)?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.insert(path, (entry.raw_file_position(), entry.size()));
        } else if let (true, Some(target)) = (kind.is_symlink(), entry.link_name().map_err(broken)?) {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            links.insert(path, folder.join(target));
        }
    }
    if files.is_empty() && links.is_empty() {
        return Err(ImageError::Unusable("the archive is empty".to_owned()));
    }
    Ok(Archive {
        file: Some(Arc::new(file)),
        files,
        links,
    })
}

/// `a/../b` → `b`.
fn folded(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => folded.push(name),
            Component::ParentDir => {
                folded.pop();
            }
            _ => {}
        }
    }
    folded
}

impl Archive {
    fn open(&self, name: &str) -> Option<(Region, u64)> {
        let mut path = folded(Path::new(name));
        for _ in 0..LINKS_MAX {
            match self.links.get(&path) {
                Some(target) => path = folded(target),
                None => break,
            }
        }
        let (offset, size) = *self.files.get(&path)?;
        let file = self.file.clone()?;
        Some((
            Region {
                file,
                offset,
                left: size,
            },
            size,
        ))
    }
}

/// A file within an archive.
struct Region {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self
            .file
            .read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Passes content on, and fails at its end if it has not the digest it should have.
struct Verified<R> {
    inner: Option<Hashing<R>>,
    digest: String,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Ok(0);
        };
        let n = inner.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(done) = self.inner.take()
        {
            let found = done.digest();
            if found != self.digest {
                let text = format!("content has digest {found}, expected {}", self.digest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(n)
    }
}

impl Bundle {
    fn kind(&self) -> Kind {
        kind(&|name| self.open(name).is_ok())
    }

    /// A file by its name, which the bundle's own documents give, and its size.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read>, u64), ImageError> {
        let missing = || ImageError::Unusable(format!("the archive lacks {name:?}"));
        match self {
            Bundle::Archive(archive) => {
                let (region, size) = archive.open(name).ok_or_else(missing)?;
                Ok((Box::new(region), size))
            }
            Bundle::Folder(folder) => {
                let root = folder.canonicalize().map_err(disk("reading the folder"))?;
                let path = folder.join(name).canonicalize().map_err(|_| missing())?;
                // Neither a link nor `..` leads out of the folder.
                if !path.starts_with(root) || !path.is_file() {
                    return Err(missing());
                }
                let file = layers::open(&path)?;
                let size = file.metadata().map_err(disk("reading the folder"))?.len();
                Ok((Box::new(file), size))
            }
        }
    }

    /// A document, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (mut reader, size) = self.open(name)?;
        if size > DOCUMENT_BYTES_MAX {
            let text = format!("{name} has {size} bytes, {DOCUMENT_BYTES_MAX} are allowed");
            return Err(ImageError::Unusable(text));
        }
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(disk("reading the archive"))?;
        Ok(bytes)
    }

    /// Content of a layout by its digest, checked when it has been read to its end.
    pub(super) fn blob(&self, at: &Descriptor) -> Result<(impl Read + use<>, u64), ImageError> {
        let (reader, size) = self.open(&format!("blobs/sha256/{}", hex(&at.digest)?))?;
        let inner = Some(Hashing::new(reader));
        let digest = at.digest.clone();
        Ok((Verified { inner, digest }, size))
    }

    /// A document by its digest.
    pub(super) fn document_at(&self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let bytes = self.document(&format!("blobs/sha256/{}", hex(&at.digest)?))?;
        let found = layers::digest_of(&bytes[..])?;
        if found != at.digest {
            let text = format!("content has digest {found}, expected {}", at.digest);
            return Err(ImageError::Unusable(text));
        }
        Ok(bytes)
    }

    /// Content by its digest as a file, below `folder` if it has to be made.
    pub(super) fn file_at(&self, at: &Descriptor, folder: &Path) -> Result<PathBuf, ImageError> {
        let path = folder.join(hex(&at.digest)?);
        let (mut reader, _) = self.blob(at)?;
        fs::create_dir_all(folder).map_err(disk("reading the archive"))?;
        let mut file = File::create(&path).map_err(disk("reading the archive"))?;
        io::copy(&mut reader, &mut file).map_err(|error| ImageError::Unusable(error.to_string()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), builder.into_inner().unwrap()).unwrap();
        file
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    }

    fn read(bundle: &Bundle, name: &str) -> Result<String, ImageError> {
        Ok(String::from_utf8(bundle.document(name)?).unwrap())
    }

    #[test]
    fn files_are_read_in_place_and_links_are_followed_within() {
        let file = archive(|b| {
            add(b, "./manifest.json", b"[]");
            add(b, "one/layer.tar", b"content");
            for (name, target) in [
                ("two/layer.tar", "../one/layer.tar"),
                ("loop", "loop"),
                ("out", "../../etc/passwd"),
            ] {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                b.append_link(&mut header, name, target).unwrap();
            }
        });
        let (kind, bundle) = open(file.path(), Path::new("/nowhere")).unwrap();
        assert_eq!(kind, Kind::Docker);
        assert_eq!(read(&bundle, "two/layer.tar").unwrap(), "content");
        assert_eq!(read(&bundle, "one/../one/layer.tar").unwrap(), "content");
        for name in ["loop", "out", "absent"] {
            assert!(
                read(&bundle, name).unwrap_err().to_string().contains("lacks"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_folder_gives_nothing_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layout")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let folder = dir.path().join("layout");
        assert!(open(&folder, Path::new("/nowhere")).is_err());
        for name in ["oci-layout", "index.json"] {
            fs::write(folder.join(name), "{}").unwrap();
        }
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let (kind, bundle) = open(&folder, Path::new("/nowhere")).unwrap();
        assert_eq!(kind, Kind::Oci);
        assert_eq!(read(&bundle, "index.json").unwrap(), "{}");
        assert!(read(&bundle, "link").is_err());
        assert!(read(&bundle, "../secret").is_err());
    }

    #[test]
    fn content_that_is_not_what_it_should_be_is_noticed_at_its_end() {
        let mut right = Verified {
            inner: Some(Hashing::new(&b"abc"[..])),
            digest: layers::digest_of(&b"abc"[..]).unwrap(),
        };
        assert_eq!(io::read_to_string(&mut right).unwrap(), "abc");
        let mut wrong = Verified {
            inner: Some(Hashing::new(&b"abd"[..])),
            digest: layers::digest_of(&b"abc"[..]).unwrap(),
        };
        assert!(
            io::read_to_string(&mut wrong)
                .unwrap_err()
                .to_string()
                .contains("expected")
        );
    }
}
