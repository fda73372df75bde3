//! Room for groups below one that has processes of its own. Version 2 passes controllers down from a group only when no
//! process is in the group itself; the root of the machine is exempt, the root that a container sees is not.

use std::fs;
use std::io;
use std::path::Path;

/// The group that takes the processes: the name that other nodes in containers use, too.
const ASIDE: &str = "init";

/// How often what was forked meanwhile is looked for.
const ROUNDS: u32 = 100;

/// Moves all processes of a group to one right below it.
///
/// # Errors
/// When there are some that cannot be moved.
pub(super) fn move_processes(group: &Path) -> io::Result<()> {
    let (from, aside) = (group.join("cgroup.procs"), group.join(ASIDE));
    match fs::create_dir(&aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut last = None;
    for _ in 0..ROUNDS {
        let processes = fs::read_to_string(&from)?;
        if processes.trim().is_empty() {
            return Ok(());
        }
        for process in processes.lines() {
            // One that has ended since it was listed needs no moving; others are seen again.
            last = fs::write(aside.join("cgroup.procs"), process).err();
        }
    }
    let why = last.map_or("new ones come all the time".to_owned(), |error| error.to_string());
    Err(io::Error::other(format!(
        "its processes cannot be moved aside: {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_move_is_fine_and_what_stays_is_told() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("cgroup.procs"), "\n").unwrap();
        move_processes(group.path()).unwrap();
        // In a plain folder nothing moves anywhere.
        fs::write(group.path().join("cgroup.procs"), "17\n").unwrap();
        let why = move_processes(group.path()).unwrap_err().to_string();
        assert!(why.contains("cannot be moved aside"), "{why}");
        assert_eq!(
            fs::read_to_string(group.path().join("init/cgroup.procs")).unwrap(),
            "17"
        );
    }
}
