//! Image volumes: the files of an image, to be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::memory::is_mounted;

/// Mounts the layers, lowest first, at `at`; done if something is mounted there already.
///
/// # Errors
/// A layer that is missing, or the kernel's refusal.
pub fn show(layers: &[PathBuf], at: &Path) -> Result<(), String> {
    if is_mounted(at) {
        return Ok(());
    }
    // Below all layers, since overlayfs wants two at least.
    let empty = at.with_file_name(format!("{}.empty", name(at)));
    for folder in [at, empty.as_path()] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let Some(folder) = layers
        .first()
        .and_then(|layer| layer.parent())
        .map(Path::to_owned)
    else {
        return Err("the image has no files".to_owned());
    };
    if layers.iter().any(|layer| !layer.is_dir()) {
        return Err("a layer of the image is missing from this machine".to_owned());
    }
    let options = format!("lowerdir={}:{}", stacked(layers).join(":"), empty.display());
    let at = at.to_owned();
    // A thread of its own, with a working directory of its own: the options must fit in a page, so layers
    // are named relative to their folder.
    let mounting = std::thread::spawn(move || -> io::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        std::env::set_current_dir(folder)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("overlay"),
            &at,
            Some("overlay"),
            flags,
            Some(options.as_str()),
        )?;
        Ok(())
    });
    let mounted = mounting.join().map_err(|_| "mounting broke off".to_owned())?;
    mounted.map_err(|error| format!("mounting the image: {error}"))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The layers' names, the uppermost first and each once: overlayfs refuses a folder given twice, and the upper
/// one hides all of the lower.
fn stacked(layers: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for layer in layers.iter().rev().map(|layer| name(layer)) {
        if !names.contains(&layer) {
            names.push(layer);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_layer_comes_first_and_each_once() {
        let layers: Vec<PathBuf> = ["/l/a", "/l/b", "/l/a", "/l/c"]
            .iter()
            .map(PathBuf::from)
            .collect();
        assert_eq!(stacked(&layers), ["c", "a", "b"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path().join("image/data");
        assert_eq!(show(&[], &at).unwrap_err(), "the image has no files");
        let gone = [temp.path().join("none")];
        assert!(
            show(&gone, &at)
                .unwrap_err()
                .contains("missing from this machine")
        );
    }
}
