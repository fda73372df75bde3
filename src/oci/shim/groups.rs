//! What a container sees of its control groups below `/sys/fs/cgroup`: its own, and nothing above them. Programs look
//! there for their limits.
//!
//! Where memory is counted by version 1 there is a folder for every hierarchy; the runtime library would show them
//! writable, so that root in a container could lift its own limits.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use sys::cgroup::Hierarchy;

const PLACE: &str = "/sys/fs/cgroup";
/// The empty folders that hierarchies of version 1 are shown in, on the stage.
const FOLDERS: &str = "groups";

/// Whether memory is version 1's business, which kills single processes.
pub(super) fn kills_one_by_one() -> bool {
    split().any(|hierarchy| counts_memory(&hierarchy))
}

fn counts_memory(hierarchy: &Hierarchy) -> bool {
    hierarchy.resources().any(|resource| resource == "memory")
}

/// The hierarchies of version 1 in which containers are.
fn split() -> impl Iterator<Item = Hierarchy> {
    let all = sys::cgroup::hierarchies().into_iter();
    all.filter(|hierarchy| hierarchy.resources().next().is_some())
}

/// Makes the folders for a pod's containers.
pub(super) fn lay_out(stage: &Path) -> io::Result<()> {
    for hierarchy in split() {
        let Some(name) = hierarchy.name() else { continue };
        fs::create_dir_all(stage.join(FOLDERS).join(name))?;
        // Such as `cpu`, which is mounted as `cpu,cpuacct`.
        for resource in hierarchy.resources().filter(|resource| *resource != name) {
            match symlink(name, stage.join(FOLDERS).join(resource)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// How a container's group is mounted; `access` is `ro`, or `rw` for those that may do everything.
pub(super) fn mounts(stage: &Path, group: &str, access: &str) -> Vec<Value> {
    let all: Vec<Hierarchy> = split().collect();
    if !all.iter().any(counts_memory) {
        let options = json!(["nosuid", "noexec", "nodev", "relatime", access]);
        return vec![json!({"destination": PLACE, "type": "cgroup", "source": "cgroup", "options": options})];
    }
    let folders = json!({"destination": PLACE, "type": "bind", "source": stage.join(FOLDERS),
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"]});
    let options = json!(["rbind", "nosuid", "noexec", "nodev", access]);
    let shown = all.iter().filter_map(|hierarchy| {
        let place = Path::new(PLACE).join(hierarchy.name()?);
        Some(json!({"destination": place, "type": "bind", "source": hierarchy.group(group), "options": options}))
    });
    std::iter::once(folders).chain(shown).collect()
}
