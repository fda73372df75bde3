//! Room for groups below one that has processes of its own. Version 2 passes controllers down from a group only when no
//! process is in the group itself; the root of the machine is exempt, the root that a container sees is not.

use std::fs;
use std::io;
use std::path::Path;

/// The group that takes the processes: the name that other nodes in containers use, too.
const ASIDE: &str = "init";

/// How often what was forked meanwhile is looked for.
const ROUNDS: u32 = 100;

/// Makes room below what this process sees as the root: if that is somebody's container, its processes go to a group of
/// their own. Before anything is passed on, for with `cpu` or `pids` passed on beside processes the root becomes one of
/// threads, and no process may be in a group below it.
///
/// # Errors
/// When there are processes that cannot be moved.
pub(super) fn make_room(root: &Path) -> io::Result<()> {
    // The machine's own root has no type, and may have processes beside its groups.
    let is_container = fs::exists(root.join("cgroup.type"))?;
    if !is_container || fs::read_to_string(root.join("cgroup.procs"))?.trim().is_empty() {
        return Ok(());
    }
    // What somebody has passed on beside the processes is taken back for as long as they move.
    let file = root.join("cgroup.subtree_control");
    let passed_on = fs::read_to_string(&file)?;
    let passed_on = || passed_on.split_whitespace();
    for controller in passed_on() {
        fs::write(&file, format!("-{controller}"))?;
    }
    move_processes(root)?;
    passed_on().try_for_each(|controller| fs::write(&file, format!("+{controller}")))
}

/// Moves all processes of a group to one right below it.
///
/// # Errors
/// When there are some that cannot be moved.
fn move_processes(group: &Path) -> io::Result<()> {
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
    fn room_is_made_in_containers_alone() {
        let root = tempfile::tempdir().unwrap();
        let (procs, control) = (
            root.path().join("cgroup.procs"),
            root.path().join("cgroup.subtree_control"),
        );
        fs::write(&procs, "17\n").unwrap();
        fs::write(&control, "cpu").unwrap();
        make_room(root.path()).unwrap();
        assert!(!root.path().join(ASIDE).exists(), "it is the machine's");
        fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        fs::write(&procs, "\n").unwrap();
        make_room(root.path()).unwrap();
        assert!(!root.path().join(ASIDE).exists(), "it is empty");
        fs::write(&procs, "17\n").unwrap();
        make_room(root.path()).unwrap_err();
        // In a plain folder nothing moves, but what was passed on was taken back first.
        assert!(root.path().join(ASIDE).exists());
        assert_eq!(fs::read_to_string(&control).unwrap(), "-cpu");
    }

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
