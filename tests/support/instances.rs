//! Which nodes ran in a folder.

use std::path::{Path, PathBuf};

/// The ids of every node that ran in the folder or in one right below it.
pub fn instance_ids(dir: &Path) -> Vec<String> {
    let near = folders(dir);
    let all = near.iter().flat_map(|folder| folders(folder)).chain(near.clone());
    let texts = all.filter_map(|folder| std::fs::read_to_string(folder.join("instance-id")).ok());
    texts.map(|id| id.trim().to_owned()).collect()
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}
