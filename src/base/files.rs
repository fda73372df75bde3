//! Small files that must be there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file in one step: readers, and a process that starts after a
/// crash, see the old content or the new. `mode` are its permission bits.
/// `durable` waits for the disk, for what must survive a power cut.
///
/// What was begun and not finished is left beside it as `NAME.new`, and taken
/// over by the next attempt. Two writers of one file must not meet.
///
/// # Errors
/// The disk.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)?;
    // What an interrupted attempt left may have other bits, and nothing is in it yet.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&new, path)?;
    if durable {
        // The new name is an entry of the folder, and that has to reach the disk too.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// What became of removing something, which may have been gone before.
///
/// # Errors
/// Every other one than that it is not there.
pub fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_takes_the_place_of_the_old_and_of_leftovers() {
        let folder = std::env::temp_dir().join(format!("coracle-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("secret");
        fs::write(folder.join("secret.new"), "half of something longer").unwrap();
        for (text, durable) in [("one", false), ("two", true)] {
            replace(&path, text.as_bytes(), 0o600, durable).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(absent_is_fine(fs::remove_file(folder.join("none"))).is_ok());
        assert!(absent_is_fine(fs::remove_dir(&folder)).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
