//! Making a store of a backup.
//!
//! It becomes a group of its own, whoever was in the group that was backed up:
//! new ids, so that what is left of the old one cannot mix with it. Revisions
//! go on far behind those of the backup, and history begins anew there: whoever
//! has seen later revisions of the old group, which are lost now, must list
//! again, and cannot wait in silence for revisions that mean something else.
//!
//! Everything is made in `restoring/` and renamed when it is whole.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ::raft::eraftpb::{ConfState, HardState};

use crate::backup::{About, Source};
use crate::config::StoreConfig;
use crate::disk::Folder;
use crate::error::StoreError;
use crate::membership::Roster;
use crate::open::create_log;
use crate::rocks::{Rocks, remove};
use crate::state::{Meta, State};

/// How far behind the backup's revisions those of the restored store begin: more
/// than were made between backup and loss, for certain.
const REVISIONS_SKIPPED: u64 = 1_000_000_000;

const UNFINISHED: &str = "restoring";

/// Makes a store in `config.dir`, which must hold none, of a backup. Returns what
/// the backup says of itself; nothing is left behind by an error.
pub fn restore(config: &StoreConfig, backup: impl Read) -> Result<About, StoreError> {
    let dir = &config.dir;
    std::fs::create_dir_all(dir).map_err(|e| StoreError::io("making", dir, e))?;
    if Rocks::is_in(dir)? || dir.join("raft").exists() {
        return Err(StoreError::Format {
            what: dir.display().to_string(),
            reason: "it holds a cluster's state already: restore into another folder, or move `raft` and \
                     `state` away"
                .into(),
        });
    }
    let unfinished = dir.join(UNFINISHED);
    remove(&unfinished)?;
    let done = fill(config, &unfinished, backup);
    let done = done.and_then(|about| finish(&unfinished, dir).map(|()| about));
    let removed = remove(&unfinished);
    let about = done?;
    removed?;
    Ok(about)
}

fn fill(config: &StoreConfig, dir: &Path, backup: impl Read) -> Result<About, StoreError> {
    std::fs::create_dir(dir).map_err(|e| StoreError::io("making", dir, e))?;
    let source = Source::open(backup)?;
    let raft = dir.join("raft");
    let disk = Folder::open(&raft).map_err(|e| StoreError::io("making", &raft, e))?;
    let fresh = StoreConfig {
        join: None,
        ..config.clone()
    };
    let mut log = create_log(&fresh, Arc::new(disk))?;
    let identity = log.identity();
    let revision = source.meta.revision + REVISIONS_SKIPPED;
    let meta = Meta {
        revision,
        compacted: revision,
        members: ConfState {
            voters: vec![identity.member],
            ..ConfState::default()
        },
        roster: Roster::default(),
        cluster: identity.cluster,
        member: identity.member,
        installed: source.meta.applied,
        ..source.meta.clone()
    };
    let rocks = Rocks::open(dir)?;
    let mut import = rocks.import()?;
    let about = source.read(|versions| import.add(versions, meta.compacted))?;
    import.finish()?(&meta)?;
    let hard = HardState {
        term: meta.applied_term.max(1),
        vote: 0,
        commit: meta.applied,
    };
    log.append_from(Some(meta.applied), std::iter::empty(), Some(hard))?;
    Ok(about)
}

/// The state first: a folder with a state and no log is refused when it is opened.
fn finish(unfinished: &Path, dir: &Path) -> Result<(), StoreError> {
    let state = Rocks::newest(unfinished)?;
    for (from, name) in [(state, "state"), (unfinished.join("raft"), "raft")] {
        std::fs::rename(&from, dir.join(name)).map_err(|e| StoreError::io("renaming", &from, e))?;
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| StoreError::io("syncing", dir, e))?;
    }
    Ok(())
}
