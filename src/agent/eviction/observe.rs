//! Looking at the machine.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::signals::{Observation, Signal};
use crate::node::machine::{Load, Machine};

/// How much there is of everything that can run short. What cannot be looked at is left out.
pub fn observe(machine: &Machine, data: &Path, images: &Path) -> Vec<Observation> {
    let load = Load::read(data);
    let mut all = vec![
        Observation {
            signal: Signal::Memory,
            available: load.memory_available_bytes,
            capacity: machine.memory_bytes,
        },
        Observation {
            signal: Signal::Pids,
            available: load.tasks_max.saturating_sub(load.tasks),
            capacity: load.tasks_max,
        },
    ];
    all.extend(file_system(data, Signal::NodefsBytes, Signal::NodefsInodes));
    all.extend(file_system(images, Signal::ImagefsBytes, Signal::ImagefsInodes));
    all
}

/// Some file systems have no fixed number of inodes; they say 0, and are never short of them.
fn file_system(path: &Path, bytes: Signal, inodes: Signal) -> Vec<Observation> {
    let Ok(found) = statvfs(path) else {
        return Vec::new();
    };
    let size = found.fragment_size();
    vec![
        Observation {
            signal: bytes,
            available: found.blocks_available() * size,
            capacity: found.blocks() * size,
        },
        Observation {
            signal: inodes,
            available: found.files_available(),
            capacity: found.files(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_seen() {
        let root = Path::new("/");
        let seen = observe(&Machine::read(root), root, Path::new("/no/such/folder"));
        let bytes = seen.iter().find(|o| o.signal == Signal::NodefsBytes).unwrap();
        assert!(bytes.available > 0 && bytes.capacity > bytes.available);
        assert!(seen.iter().all(|o| o.signal != Signal::ImagefsBytes));
    }
}
