//! A file system in a file, on a loop device whose counters say what reached
//! the disk: those of a process do not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::sandbox::run;

/// Mounted as long as it lives.
pub struct Disk {
    /// Where it is mounted.
    pub folder: PathBuf,
    device: String,
}

impl Disk {
    /// Makes and mounts one of this many bytes in the scratch folder.
    pub fn mount(scratch: &Path, bytes: u64) -> anyhow::Result<Self> {
        let (file, folder) = (scratch.join("disk"), scratch.join("mounted"));
        std::fs::File::create(&file)?.set_len(bytes)?;
        std::fs::create_dir_all(&folder)?;
        let path = |path: &Path| path.display().to_string();
        run(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &path(&file)],
        )?;
        run("mount", &["-o", "loop", &path(&file), &path(&folder)])?;
        let found = Command::new("findmnt")
            .args(["-no", "SOURCE"])
            .arg(&folder)
            .output()?;
        let device = String::from_utf8_lossy(&found.stdout)
            .trim()
            .trim_start_matches("/dev/")
            .to_owned();
        Ok(Self { folder, device })
    }

    /// Writes out what is still in memory, which would be counted to the next look.
    pub fn sync(&self) {
        let _ = Command::new("sync").arg("-f").arg(&self.folder).status();
    }

    /// Bytes written to the device so far.
    pub fn written(&self) -> u64 {
        let stat =
            std::fs::read_to_string(format!("/sys/class/block/{}/stat", self.device)).unwrap_or_default();
        let sectors = stat.split_whitespace().nth(6).context("the seventh figure");
        sectors
            .ok()
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .unwrap_or(0)
            * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["-l", &self.folder.display().to_string()]) {
            eprintln!("{error}");
        }
    }
}
