//! Compiled programs on disk.
//!
//! The engine trusts such a file blindly: it is machine code. So only files of
//! our own making are taken: in our folder, named after program and engine,
//! closed by a trailer with a checksum over all before it. Anything else is
//! compiled anew and replaced. Files appear by renaming, whole or not at all.
#![allow(unsafe_code)]

use crate::WasmError;
use crate::code::Code;
use crate::detect::Form;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// The trailer's first bytes; the last one is the format's number.
const MAGIC: [u8; 8] = *b"CORAWAS\x01";

/// Magic, form, checksum.
const TRAILER_BYTES: u64 = 8 + 1 + 32;

/// How files begin that are being written, and how old they may become: other
/// hosts may be writing to the same folder.
const TEMPORARY: &str = "new-";
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// A folder of compiled programs.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in a folder, which is made if need be, for this user alone.
    pub(crate) fn open(dir: PathBuf) -> Result<Cache, WasmError> {
        match DirBuilder::new().recursive(true).mode(0o700).create(&dir) {
            Ok(()) => Ok(Cache { dir }),
            Err(source) => Err(WasmError::Io {
                context: format!("create {}", dir.display()),
                source,
            }),
        }
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        self.dir
            .join(format!("{}.{}.cwasm", file_name(digest), engine_id(engine)))
    }

    /// A program from the cache; None if it is not there, or not as we wrote it.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Code> {
        let path = self.path(engine, digest);
        let form = match check(&path) {
            Ok(form) => form?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a compiled wasm program");
                return None;
            }
        };
        match open(engine, &path, form) {
            Ok(code) => Some(code),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled wasm program not usable");
                None
            }
        }
    }

    /// Writes a compiled program and opens it from there, so that its code is
    /// backed by the file rather than by memory.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        digest: &str,
        form: Form,
        code: &[u8],
    ) -> std::io::Result<Code> {
        let path = self.path(engine, digest);
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.dir)?;
        file.write_all(code)?;
        file.write_all(&trailer(form, code))?;
        file.as_file().sync_data()?;
        file.persist(&path).map_err(|error| error.error)?;
        self.drop_older(digest, &path);
        open(engine, &path, form).map_err(std::io::Error::other)
    }

    /// Removes the same program as compiled by other engines.
    fn drop_older(&self, digest: &str, keep: &Path) {
        let older = self.files_of(digest).filter(|path| path != keep);
        older.for_each(|path| drop(std::fs::remove_file(path)));
    }

    /// Removes a program.
    pub(crate) fn forget(&self, digest: &str) {
        self.files_of(digest)
            .for_each(|path| drop(std::fs::remove_file(path)));
    }

    /// What is left of writes that were cut short: files that are neither new
    /// nor named.
    pub(crate) fn sweep(&self) {
        let is_old = |path: &PathBuf| {
            let modified = path.metadata().and_then(|meta| meta.modified()).ok();
            modified
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|age| age > LEFTOVER_AGE)
        };
        let leftovers = self.files(TEMPORARY).filter(is_old);
        leftovers.for_each(|path| drop(std::fs::remove_file(path)));
    }

    fn files_of(&self, digest: &str) -> impl Iterator<Item = PathBuf> {
        self.files(&format!("{}.", file_name(digest)))
    }

    fn files(&self, prefix: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let prefix = prefix.to_string();
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let begins = move |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(&prefix));
        entries
            .filter(move |entry| begins(&entry.file_name()))
            .map(|entry| entry.path())
    }
}

fn open(engine: &Engine, path: &Path, form: Form) -> wasmtime::Result<Code> {
    // SAFETY: the file was written by `Cache::store` from this engine's compiler
    // (its name carries the engine's compatibility hash) and `check` or `store`
    // has just seen it whole. Others may write to the folder only if they may
    // replace this program as well.
    unsafe {
        Ok(match form {
            Form::Module => Code::Module(Module::deserialize_file(engine, path)?),
            Form::Component => Code::Component(Component::deserialize_file(engine, path)?),
        })
    }
}

/// A program that was compiled just now, without a file.
pub(crate) fn open_compiled(engine: &Engine, form: Form, code: &[u8]) -> wasmtime::Result<Code> {
    // SAFETY: the bytes come from this engine's compiler, in this process or in
    // one that it has started from its own program, and from nowhere else.
    unsafe {
        Ok(match form {
            Form::Module => Code::Module(Module::deserialize(engine, code)?),
            Form::Component => Code::Component(Component::deserialize(engine, code)?),
        })
    }
}

fn trailer(form: Form, code: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(code);
    seal(form, hash)
}

/// The trailer, given the hash of all before it.
fn seal(form: Form, mut hash: Sha256) -> Vec<u8> {
    let mut trailer = MAGIC.to_vec();
    trailer.push(form as u8);
    hash.update(&trailer);
    trailer.extend(hash.finalize());
    trailer
}

/// What the file holds, if it is whole and ours.
fn check(path: &Path) -> std::io::Result<Option<Form>> {
    let mut file = File::open(path)?;
    let Some(code_bytes) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else {
        return Ok(None);
    };
    let mut hash = Sha256::new();
    std::io::copy(&mut (&mut file).take(code_bytes), &mut hash)?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let forms = [Form::Module, Form::Component];
    Ok(forms.into_iter().find(|form| seal(*form, hash.clone()) == end))
}

/// A file name for a digest: itself where it is plain, else a hash of it, so
/// that no digest can name a file elsewhere.
fn file_name(digest: &str) -> String {
    let name = digest.replacen(':', "-", 1);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !name.is_empty() && name.len() <= 140 && name.chars().all(is_plain) {
        return name;
    }
    format!("other-{:x}", Sha256::digest(digest))
}

/// A name for all that compiled code depends on: engine version, settings,
/// this machine's processor.
fn engine_id(engine: &Engine) -> String {
    struct Stable(Sha256);
    impl Hasher for Stable {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = format!("{:x}", hasher.0.finalize());
    digest.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(engine: &Engine) -> Vec<u8> {
        engine
            .precompile_module(b"(module (func (export \"_start\")))")
            .unwrap()
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn keeps_a_program_and_distrusts_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, engine) = (Cache::open(dir.path().join("cwasm")).unwrap(), Engine::default());
        assert!(cache.load(&engine, "sha256:ab").is_none());
        cache
            .store(&engine, "sha256:ab", Form::Module, &compiled(&engine))
            .unwrap();
        assert!(matches!(cache.load(&engine, "sha256:ab"), Some(Code::Module(_))));

        let path = cache.path(&engine, "sha256:ab");
        let whole = std::fs::read(&path).unwrap();
        for (at, change) in [
            (0, 1u8),
            (whole.len() / 2, 1),
            (whole.len() - 33, 1),
            (whole.len() - 1, 0x80),
        ] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            // A new file: the old one may still be mapped.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
            assert!(cache.load(&engine, "sha256:ab").is_none(), "byte {at}");
        }
        for length in [0, 10, whole.len() - 1] {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(cache.load(&engine, "sha256:ab").is_none(), "length {length}");
        }
    }

    #[test]
    fn foreign_machine_code_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, engine) = (Cache::open(dir.path().into()).unwrap(), Engine::default());
        std::fs::write(cache.path(&engine, "sha256:cd"), compiled(&engine)).unwrap();
        assert!(cache.load(&engine, "sha256:cd").is_none());
    }

    #[test]
    fn other_engines_files_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, engine) = (Cache::open(dir.path().into()).unwrap(), Engine::default());
        std::fs::write(dir.path().join("sha256-ab.0000000000000000.cwasm"), "old").unwrap();
        std::fs::write(dir.path().join("sha256-abc.0000000000000000.cwasm"), "another").unwrap();
        cache
            .store(&engine, "sha256:ab", Form::Module, &compiled(&engine))
            .unwrap();
        assert_eq!(files(dir.path()).len(), 2);
    }

    #[test]
    fn forgets_and_sweeps() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, engine) = (Cache::open(dir.path().into()).unwrap(), Engine::default());
        cache
            .store(&engine, "sha256:ab", Form::Module, &compiled(&engine))
            .unwrap();
        let leftover = dir.path().join("new-x");
        std::fs::write(&leftover, "").unwrap();
        cache.sweep();
        assert!(leftover.exists());
        let old = std::time::SystemTime::now() - 2 * LEFTOVER_AGE;
        File::open(&leftover).unwrap().set_modified(old).unwrap();
        cache.sweep();
        cache.forget("sha256:ab");
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn digests_cannot_leave_the_folder() {
        assert_eq!(file_name("sha256:0af3"), "sha256-0af3");
        for odd in ["", "../../etc/passwd", "sha256:a/b", "a.b", &"x".repeat(200)] {
            assert!(file_name(odd).starts_with("other-"), "{odd}");
        }
    }
}
