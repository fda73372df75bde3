//! hostPath volumes and sub-paths: which path of this machine a mount means.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Component, Path};

/// Checks (and for the `OrCreate` types makes) what a hostPath volume names.
///
/// # Errors
/// The kubelet's text.
pub fn check_host_path(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).ok().map(|m| m.file_type());
    let shown = path.display();
    let fail = |text: &str| Err(format!("hostPath type check failed: {shown} is not a {text}"));
    let make = |result: io::Result<()>| result.map_err(|error| format!("{shown}: {error}"));
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => make(fs::DirBuilder::new().recursive(true).mode(0o755).create(path)),
        ("FileOrCreate", None) => make(
            fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(path)
                .map(drop),
        ),
        ("Directory" | "DirectoryOrCreate", Some(t)) if t.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Some(t)) if t.is_file() => Ok(()),
        ("Socket", Some(t)) if t.is_socket() => Ok(()),
        ("CharDevice", Some(t)) if t.is_char_device() => Ok(()),
        ("BlockDevice", Some(t)) if t.is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => fail("directory"),
        ("File" | "FileOrCreate", _) => fail("file"),
        ("Socket", _) => fail("socket file"),
        ("CharDevice", _) => fail("character device"),
        ("BlockDevice", _) => fail("block device"),
        (other, _) => Err(format!("unknown hostPath type {other:?}")),
    }
}

/// Checks that a sub-path stays inside `volume`, and makes it as a folder if it does not exist. Symbolic links are
/// followed but may not lead out of the volume: containers write into volumes, and a link planted there must not
/// give them the host's files. They may plant it later, too, so whoever mounts the sub-path looks it up once more,
/// in the same way.
///
/// # Errors
/// When it leads out, or the disk refuses.
pub fn make_sub_path(volume: &Path, sub_path: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("failed to prepare subPath {sub_path:?}: {why}"));
    let relative = Path::new(sub_path);
    if !relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return bad("it must be a relative path without '..'");
    }
    match sys::beneath::open_or_make(volume, relative) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => bad("it leads out of the volume"),
        Err(error) => bad(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_types() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("f");
        fs::write(&file, "").unwrap();
        let dir = temp.path();
        let none = temp.path().join("none");
        assert_eq!(check_host_path(&none, ""), Ok(()));
        assert_eq!(check_host_path(dir, "Directory"), Ok(()));
        assert_eq!(check_host_path(&file, "File"), Ok(()));
        let text = format!(
            "hostPath type check failed: {} is not a directory",
            file.display()
        );
        assert_eq!(check_host_path(&file, "Directory"), Err(text));
        assert!(check_host_path(&none, "Directory").is_err());
        assert!(check_host_path(&file, "Socket").is_err());
        assert_eq!(check_host_path(&none.join("deep"), "DirectoryOrCreate"), Ok(()));
        assert!(none.join("deep").is_dir());
        assert_eq!(check_host_path(&dir.join("new"), "FileOrCreate"), Ok(()));
        assert!(dir.join("new").is_file());
    }

    #[test]
    fn sub_paths_stay_inside() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::write(temp.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("evil")).unwrap();
        std::os::unix::fs::symlink("..", volume.join("up")).unwrap();
        std::os::unix::fs::symlink("real", volume.join("link")).unwrap();
        fs::create_dir(volume.join("real")).unwrap();
        assert_eq!(make_sub_path(&volume, "a/b"), Ok(()));
        assert!(volume.join("a/b").is_dir());
        assert_eq!(make_sub_path(&volume, "link"), Ok(()));
        let text = "failed to prepare subPath \"up\": it leads out of the volume";
        assert_eq!(make_sub_path(&volume, "up"), Err(text.to_owned()));
        for bad in [
            "../secret",
            "/etc",
            "evil",
            "evil/passwd",
            "up",
            "up/secret",
            "a/../../secret",
        ] {
            assert!(make_sub_path(&volume, bad).is_err(), "{bad}");
        }
    }
}
