//! Files that containers have written, read for them by the agent: whatever they are, and wherever they lead.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// More than any environment takes.
const BYTES_MAX: u64 = 1 << 20;

/// The text of a file below a folder; `None` if there is none.
///
/// # Errors
/// What is there instead, in words for users.
pub fn read(folder: &Path, path: &Path) -> Result<Option<String>, String> {
    let failed = |why: String| {
        Err(format!(
            "failed to open environment variable file {path:?}: {why}"
        ))
    };
    let inside = path.strip_prefix("/").unwrap_or(path);
    // Links may lead anywhere but out. Held for as long as its path is used.
    let held = match sys::beneath::open(folder, inside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return failed(error.to_string()),
        Ok(opened) => opened,
    };
    let found = sys::beneath::path_of(&held);
    // Before it is opened: a pipe would wait for its other end.
    match fs::metadata(&found) {
        Ok(meta) if !meta.is_file() => return failed("it is not a regular file".to_owned()),
        Ok(meta) if meta.len() > BYTES_MAX => return failed(format!("it has more than {BYTES_MAX} bytes")),
        Ok(_) => {}
        Err(error) => return failed(error.to_string()),
    }
    let mut bytes = Vec::new();
    let read = File::open(&found).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) => failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_planted_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, secret) = (dir.path().join("volume"), dir.path().join("secret"));
        fs::create_dir(&folder).unwrap();
        fs::write(&secret, "A='hidden'").unwrap();
        fs::write(folder.join("plain"), "A='1'").unwrap();
        fs::write(folder.join("long"), vec![b' '; (BYTES_MAX + 1) as usize]).unwrap();
        symlink("plain", folder.join("link")).unwrap();
        symlink(&secret, folder.join("out")).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let of = |path: &str| read(&folder, Path::new(path));
        for path in ["plain", "/plain", "link"] {
            assert_eq!(of(path).unwrap().as_deref(), Some("A='1'"), "{path}");
        }
        assert_eq!(of("none"), Ok(None));
        for (path, why) in [
            ("pipe", "not a regular file"),
            ("long", "more than 1048576 bytes"),
            ("out", "failed to open"),
        ] {
            let told = of(path).unwrap_err();
            assert!(told.contains(why) && !told.contains("hidden"), "{told}");
        }
    }
}
