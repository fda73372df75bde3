//! Looking at the machine.

use std::path::Path;

use super::signals::{Observation, Signal};
use crate::fill::Fill;
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
    let Some(Fill {
        bytes: (all_bytes, free_bytes, _),
        inodes: (all_inodes, free_inodes, _),
    }) = Fill::of(path)
    else {
        return Vec::new();
    };
    vec![
        Observation {
            signal: bytes,
            available: free_bytes,
            capacity: all_bytes,
        },
        Observation {
            signal: inodes,
            available: free_inodes,
            capacity: all_inodes,
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
