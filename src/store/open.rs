//! Opening a store's folder: finds or makes the log and the state, checks that
//! they belong together, and hands them to a core.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ::raft::eraftpb::ConfState;
use base::Random;

use crate::apply::Position;
use crate::cache::Cache;
use crate::config::StoreConfig;
use crate::core::Core;
use crate::disk::{Disk, Folder};
use crate::error::StoreError;
use crate::habits::Habits;
use crate::log::{Log, Recovered};
use crate::rocks::Rocks;
use crate::segment::Identity;
use crate::state::{Meta, State};
use crate::witness::{self, Witness};

/// A store's parts, fresh from the disk.
pub struct Opened {
    /// Ready to turn.
    pub core: Core,
    /// The latest entries.
    pub cache: Arc<Cache>,
    /// The state.
    pub state: Arc<dyn State>,
    /// Where the log lies.
    pub disk: Arc<dyn Disk>,
    /// The log.
    pub log: Arc<Mutex<Log>>,
}

/// Opens the folders `raft` and `state` under `config.dir`.
pub fn open(config: &StoreConfig, origin: u64) -> Result<Opened, StoreError> {
    make_folder(&config.dir)?;
    let raft = config.dir.join("raft");
    let disk = Folder::open(&raft).map_err(|e| StoreError::io("opening", &raft, e))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let nothing = disk
        .list()
        .map_err(|e| StoreError::io("listing", &raft, e))?
        .is_empty();
    let fresh = nothing && !Rocks::is_in(&config.dir)? && !config.dir.join(witness::FILE).exists();
    let (state, made) = std::thread::scope(|scope| {
        let state = scope.spawn(|| open_state(config));
        // A new log does not depend on the state: prefill it meanwhile.
        let made = fresh.then(|| create_log(config, disk.clone()));
        let state = state
            .join()
            .unwrap_or_else(|_| Err(StoreError::Stopped("opening the state failed".into())));
        (state, made)
    });
    let state = state?;
    let known = state.meta()?;
    let unmarked = known.is_none();
    let (log, recovered, meta) = match made {
        Some(log) => begin(log?),
        None => resume(config, disk.clone(), known)?,
    };
    if unmarked {
        // From here on it is known that there was a log: a folder without one has lost it.
        state.write(&[], &meta)?;
        state.flush()?;
    }
    assemble(config, state, disk, log, recovered, meta, origin)
}

/// The state in a folder; whose it is, a full member's or a witness's, is settled when the folder is made.
fn open_state(config: &StoreConfig) -> Result<Arc<dyn State>, StoreError> {
    let dir = &config.dir;
    let wrong = |reason: &str| StoreError::Format {
        what: dir.display().to_string(),
        reason: reason.to_owned(),
    };
    match (config.witness, dir.join(witness::FILE).exists()) {
        (false, true) => Err(wrong(
            "it is a witness's: start it as one, or join with an empty folder",
        )),
        (true, _) if config.join.is_none() => Err(wrong("a witness cannot begin a cluster: it joins one")),
        (true, false) if dir.join("state").exists() => Err(wrong(
            "it is a full server's: start it as one, or join with an empty folder",
        )),
        (true, _) => Ok(Arc::new(Witness::open(dir)?)),
        (false, false) => Ok(Arc::new(Rocks::open(dir)?)),
    }
}

/// Puts parts together that belong together.
pub fn assemble(
    config: &StoreConfig,
    state: Arc<dyn State>,
    disk: Arc<dyn Disk>,
    log: Log,
    recovered: Recovered,
    meta: Meta,
    origin: u64,
) -> Result<Opened, StoreError> {
    let position = Position {
        revision: meta.revision,
        compacted: meta.compacted,
    };
    let cache = Cache::new(
        state.load()?,
        position,
        config.watch_window,
        config.watch_window_bytes,
    );
    let cache = Arc::new(cache);
    let habits = Habits {
        origin,
        keep_history: config.keep_history,
        keep_log_bytes: config.keep_log_bytes,
        witness: config.witness,
        here: config.here.clone(),
        plants: config.plants,
    };
    let core = Core::new(state.clone(), cache.clone(), meta, recovered, habits)?;
    let log = Arc::new(Mutex::new(log));
    if config.witness {
        core.attach(log.clone());
    }
    Ok(Opened {
        core,
        cache,
        state,
        disk,
        log,
    })
}

/// Makes a log in an empty folder, for a new group's first member or one that shall join.
pub fn create_log(config: &StoreConfig, disk: Arc<dyn Disk>) -> Result<Log, StoreError> {
    let identity = new_identity(&*config.random, config.join);
    Log::create(disk, identity, config.segment_bytes)
}

/// The parts of a store whose log is new.
fn begin(log: Log) -> (Log, Recovered, Meta) {
    let meta = first_meta(log.identity());
    (log, Recovered::default(), meta)
}

/// What is said of a state whose log is gone.
fn lost_log(config: &StoreConfig, meta: &Meta) -> StoreError {
    StoreError::Format {
        what: config.dir.join("raft").display().to_string(),
        reason: format!(
            "the log is missing, of which the state has applied {} entries: what came after them is lost with it. \
             One of several servers is replaced (`coracle member remove`, then join with an empty folder), a lone one \
             restored from a backup",
            meta.applied
        ),
    }
}

/// The parts of a store that was there before.
pub fn resume(
    config: &StoreConfig,
    disk: Arc<dyn Disk>,
    meta: Option<Meta>,
) -> Result<(Log, Recovered, Meta), StoreError> {
    let applied = meta.as_ref().map_or(0, |meta| meta.applied);
    let Some((mut log, mut recovered)) =
        Log::open(disk.clone(), config.segment_bytes, applied, config.plants)?
    else {
        return match meta {
            Some(meta) => Err(lost_log(config, &meta)),
            // The first start was cut short before anything was written.
            None => Ok(begin(create_log(config, disk)?)),
        };
    };
    let meta = meta.unwrap_or_else(|| first_meta(log.identity()));
    if (meta.cluster, meta.member) != (log.identity().cluster, log.identity().member) {
        let reason = "the log and the state belong to different members".into();
        return Err(StoreError::Format {
            what: config.dir.display().to_string(),
            reason,
        });
    }
    if recovered.base < meta.installed {
        // The machine stopped after a snapshot took the state's place and before
        // the log began anew: what the log holds does not lead there.
        log.append_from(Some(meta.installed), std::iter::empty(), None)?;
        recovered.entries.clear();
        recovered.last_index = meta.installed;
    }
    let damaged = |reason| StoreError::Damaged {
        file: config.dir.join("raft"),
        offset: 0,
        reason,
    };
    if recovered.last_index < applied {
        let last = recovered.last_index;
        return Err(damaged(format!(
            "the log ends at entry {last}, but entries up to {applied} were applied"
        )));
    }
    let dispensable = match config.witness {
        true => witness::dispensable(&meta, config.plants),
        false => applied,
    };
    let before = log.begins_after();
    if before > dispensable.max(recovered.base).max(meta.installed) {
        return Err(damaged(format!(
            "the log begins after entry {before}, and nothing else has those after {dispensable}"
        )));
    }
    Ok((log, recovered, meta))
}

fn first_meta(identity: Identity) -> Meta {
    let voters = if identity.founder {
        vec![identity.member]
    } else {
        vec![]
    };
    Meta {
        members: ConfState {
            voters,
            ..ConfState::default()
        },
        cluster: identity.cluster,
        member: identity.member,
        ..Meta::default()
    }
}

fn new_identity(random: &dyn Random, join: Option<u64>) -> Identity {
    // 0 means "no member" to Raft.
    let member = random.number().max(1);
    Identity {
        log: random.number(),
        cluster: join.unwrap_or_else(|| random.number()),
        member,
        founder: join.is_none(),
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(path).map_err(|e| StoreError::io("making", path, e))
}
