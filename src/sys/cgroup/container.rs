//! What version 2 has to be told of a container beyond its limits, as the kubelet does.

use std::fs;
use std::io;

use super::hierarchies;

/// Files and their content: half a container is worse than none when memory runs out, and what a container may use of
/// memory is not to be had on disk beside it.
const SETTINGS: [(&str, &str); 2] = [("memory.oom.group", "1"), ("memory.swap.max", "0")];

/// Sets what holds for every container's group in version 2, as far as the kernel knows of it.
///
/// # Errors
/// What the kernel said, with the file it was about.
pub fn settle(path: &str) -> io::Result<()> {
    for hierarchy in hierarchies().iter().filter(|hierarchy| hierarchy.is_v2()) {
        for (file, content) in SETTINGS {
            let file = hierarchy.group(path).join(file);
            if file.exists() {
                fs::write(&file, content)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
            }
        }
    }
    Ok(())
}
