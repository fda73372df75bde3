//! Copies of a database: handing one out while writing goes on, and taking one in.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::database::Database;
use super::place::{Place, remove};
use crate::error::StoreError;
use crate::state::{Export, Import, Install, Meta, Sieve, Version};

/// Versions are handed out in portions of about this size.
const PORTION_BYTES: usize = 256 << 10;

type Portion = Result<Vec<Version>, StoreError>;

/// Reads from a thread, because RocksDB's snapshot borrows the database.
struct Copy {
    portions: Receiver<Portion>,
}

/// Begins a copy of the database as it is now.
pub fn export(place: Arc<Place>) -> Result<Box<dyn Export>, StoreError> {
    let (_, database) = place.current();
    // Two portions wait at most: the peer's speed sets the pace.
    let (send, portions) = sync_channel(2);
    let (begin, begun) = sync_channel(1);
    let work = move || {
        let done = database.copy(
            PORTION_BYTES,
            || begin.send(()).unwrap_or(()),
            |portion| send_on(&send, portion),
        );
        // Who has gone away does not want to know.
        if let Err(error) = place.note(done) {
            let _ = send.send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("store-export".into())
        .spawn(work)
        .map_err(|source| StoreError::Io {
            what: "starting a thread".into(),
            source,
        })?;
    // From here on the snapshot holds what is in it.
    begun
        .recv()
        .map_err(|_| StoreError::Stopped("copying the state failed".into()))?;
    Ok(Box::new(Copy { portions }))
}

/// False when nobody listens any more.
fn send_on(send: &SyncSender<Portion>, portion: Vec<Version>) -> bool {
    send.send(Ok(portion)).is_ok()
}

impl Export for Copy {
    fn next(&mut self) -> Portion {
        // The thread ends when it has handed out everything.
        self.portions.recv().unwrap_or_else(|_| Ok(vec![]))
    }
}

/// Makes a database that refused to write take writes again. It never would by
/// itself after most failures, but what was written to it can still be read: a
/// copy of it takes its place, as soon as the disk takes one.
pub fn renew(place: &Arc<Place>) -> Result<(), StoreError> {
    let (_, database) = place.current();
    if database.flush().is_ok() {
        return Ok(());
    }
    let Some(meta) = database.meta()? else {
        return Err(StoreError::Stopped("the state has no meta data".into()));
    };
    place.probe()?;
    let copied = copy(place, &database, &meta);
    if copied.is_err() {
        // It takes room that is wanted.
        remove(&place.incoming())?;
    }
    copied
}

fn copy(place: &Arc<Place>, database: &Database, meta: &Meta) -> Result<(), StoreError> {
    let mut copy = import(place.clone())?;
    let mut added = Ok(());
    database.copy(
        PORTION_BYTES,
        || (),
        |portion| {
            added = copy.add(portion, meta.compacted);
            added.is_ok()
        },
    )?;
    added?;
    copy.finish()?(meta)
}

/// A copy that is being taken in.
struct Incoming {
    place: Arc<Place>,
    /// None once it is closed.
    database: Option<Database>,
    sieve: Sieve,
}

/// Begins a new database beside the one in use.
pub fn import(place: Arc<Place>) -> Result<Box<dyn Import>, StoreError> {
    let path = place.incoming();
    remove(&path)?;
    let database = Some(Database::open(&path)?);
    Ok(Box::new(Incoming {
        place,
        database,
        sieve: Sieve::default(),
    }))
}

impl Import for Incoming {
    fn add(&mut self, versions: Vec<Version>, compacted: u64) -> Result<(), StoreError> {
        match &self.database {
            Some(database) => database.add(versions, compacted, &mut self.sieve),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Install, StoreError> {
        let Some(database) = self.database.take() else {
            return Err(StoreError::Stopped("a copy was finished twice".into()));
        };
        database.flush()?;
        let place = self.place.clone();
        Ok(Box::new(move |meta| {
            database.write(&[], meta)?;
            database.flush()?;
            // RocksDB remembers paths: closed here, opened under the new name.
            drop(database);
            place.replace()
        }))
    }
}
