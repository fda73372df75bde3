//! Users of the machine that pods have for themselves (`hostUsers: false`): a range of ids each, that no other pod
//! has. Which one stands in the pod's folder, so a restarted agent knows it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::files::absent_is_fine;
use serde::{Deserialize, Serialize};
use sys::userns::IDS;

use crate::disk;
use crate::paths::Paths;

/// Version of the record.
const VERSION: u32 = 1;

/// What stands in the pod's folder.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// The first id.
    first: u32,
}

/// The ranges that pods of this node have.
pub struct UserRanges {
    paths: Paths,
    /// UIDs by the first id of their ranges; `None` until somebody wants one. Nothing awaits while it is locked.
    taken: Mutex<Option<BTreeMap<u32, String>>>,
}

impl UserRanges {
    /// The ranges that stand in the pods' folders, which are read when somebody wants one.
    pub fn new(paths: Paths) -> UserRanges {
        UserRanges {
            paths,
            taken: Mutex::default(),
        }
    }

    /// The first id of a pod's range: the one it has, or a free one.
    ///
    /// # Errors
    /// When none is free, or the disk does not take the record.
    pub fn take(&self, uid: &str) -> Result<u32, String> {
        let mut taken = self.lock();
        let taken = taken.get_or_insert_with(|| read(&self.paths));
        if let Some((first, _)) = taken.iter().find(|(_, holder)| *holder == uid) {
            return Ok(*first);
        }
        let first = free(taken).ok_or("hostUsers: false: every range of users has been given to a pod")?;
        let path = self.paths.users(uid);
        let record = Record {
            version: VERSION,
            first,
        };
        disk::write_json(&path, &record, false).map_err(|error| format!("{}: {error}", path.display()))?;
        taken.insert(first, uid.to_owned());
        Ok(first)
    }

    /// Another pod may have the pod's range.
    pub fn give_back(&self, uid: &str) {
        // The record first: with it in place, a restarted agent would find the range taken by two.
        if let Err(error) = absent_is_fine(fs::remove_file(self.paths.users(uid))) {
            return tracing::warn!(uid, %error, "a range of users stays taken until the agent's restart");
        }
        if let Some(taken) = self.lock().as_mut() {
            taken.retain(|_, holder| holder != uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u32, String>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(paths: &Paths) -> BTreeMap<u32, String> {
    let pods = fs::read_dir(paths.pods()).into_iter().flatten().flatten();
    let uids = pods.map(|pod| pod.file_name().to_string_lossy().into_owned());
    let known = uids.filter_map(|uid| {
        let record: Record = disk::read_json(&paths.users(&uid))?;
        (record.version == VERSION).then_some((record.first, uid))
    });
    known.collect()
}

/// The lowest range that nobody has. The first 65,536 ids are the machine's own.
fn free(taken: &BTreeMap<u32, String>) -> Option<u32> {
    (1..u32::MAX / IDS)
        .map(|number| number * IDS)
        .find(|first| !taken.contains_key(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_are_remembered() {
        let temp = tempfile::tempdir().unwrap();
        let open = || UserRanges::new(Paths::new(temp.path()));
        let ranges = open();
        assert_eq!(ranges.take("a"), Ok(65_536));
        assert_eq!(ranges.take("b"), Ok(131_072));
        assert_eq!(ranges.take("a"), Ok(65_536));
        let again = open();
        assert_eq!(again.take("c"), Ok(196_608));
        assert_eq!(again.take("b"), Ok(131_072));
        again.give_back("a");
        assert_eq!(again.take("d"), Ok(65_536));
        again.give_back("nobody");
    }

    #[test]
    fn the_last_range_ends_before_the_ids_do() {
        let all = (1..u32::MAX / IDS).map(|number| (number * IDS, String::new()));
        let mut all: BTreeMap<u32, String> = all.collect();
        assert_eq!(free(&all), None);
        let (last, _) = all.pop_last().unwrap();
        assert_eq!(free(&all), Some(last));
        assert!(last.checked_add(IDS).is_some());
    }
}
