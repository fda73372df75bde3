//! The native server in an image of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The native server, which is built beside this program.
pub fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("coracle-backend"))
}

/// A root file system with the native server as `/backend` and the libraries it needs, as a tar.
pub fn rootfs(scratch: &Path) -> anyhow::Result<PathBuf> {
    let root = scratch.join("backend-root");
    let program = program()?;
    std::fs::create_dir_all(&root)?;
    std::fs::copy(&program, root.join("backend"))?;
    let libraries = Command::new("ldd").arg(&program).output().context("ldd")?;
    for word in String::from_utf8_lossy(&libraries.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let inside = root.join(word.trim_start_matches('/'));
        if let Some(folder) = inside.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(word, inside)?;
    }
    pack(&root, &scratch.join("backend.tar"))
}

/// Packs a folder's content into a tar.
pub fn pack(root: &Path, file: &Path) -> anyhow::Result<PathBuf> {
    let status = Command::new("tar")
        .arg("-cf")
        .arg(file)
        .arg("-C")
        .arg(root)
        .arg(".")
        .status()?;
    ensure!(status.success(), "tar {}", root.display());
    Ok(file.to_owned())
}
