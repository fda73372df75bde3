//! The programs of one pod by the names under which they know one another.

use super::exporter::Exporter;
use super::membership::{Absent, Membership};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wasmtime::component::Component;

/// How long a program that imports something waits for others of its pod that are still on their way.
const OTHERS_PATIENCE: Duration = Duration::from_secs(15);

/// The programs of one pod and what they export. Belongs to the pod's [`Network`], so that those of other pods are not to
/// be found in it.
#[derive(Default)]
pub struct Interfaces {
    // A std mutex: nothing awaits while it is held.
    known: Mutex<HashMap<String, Standing>>,
    changed: Notify,
}

/// A program by what it exports.
#[derive(Clone)]
pub(super) struct Known {
    /// The digest it was compiled under.
    pub(super) digest: String,
    /// None: it is none, and exports nothing.
    pub(super) component: Option<Component>,
}

/// What is known of a program.
enum Standing {
    /// It has been started at least once. Its types stay known while it is between two runs.
    Known {
        program: Known,
        running: Option<Weak<dyn Exporter>>,
    },
    /// It could not be started when that was tried last, and why.
    Refused(String),
}

impl Interfaces {
    /// Tells who needs a program that it could not be started, and why: they need not wait for it.
    pub fn refuse(&self, name: &str, why: &str) {
        self.set(name, Standing::Refused(format!("cannot be started: {why}")));
    }

    /// A program that could not be started is on its way again: there is something to wait for.
    pub fn expect(&self, name: &str) {
        let mut known = self.lock();
        if matches!(known.get(name), Some(Standing::Refused(_))) {
            known.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &str, standing: Standing) {
        self.lock().insert(name.to_owned(), standing);
        self.changed.notify_waiters();
    }

    /// Makes a program known, with its run if there is one already.
    pub(super) fn announce(&self, name: &str, program: Known, running: Option<Weak<dyn Exporter>>) {
        self.set(name, Standing::Known { program, running });
    }

    /// All programs but that member's own, in the order of their names.
    pub(super) fn others(&self, member: &Membership) -> Others {
        let known = self.lock();
        let others = known.iter().filter(|(name, _)| **name != member.name);
        let mut programs: Vec<_> = others
            .filter_map(|(name, standing)| match standing {
                Standing::Known { program, .. } => Some((name.clone(), program.clone())),
                Standing::Refused(_) => None,
            })
            .collect();
        programs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let late = format!("has not begun within {} seconds", OTHERS_PATIENCE.as_secs());
        let expected = member.others.iter().filter_map(|name| match known.get(name) {
            Some(Standing::Known { .. }) => None,
            Some(Standing::Refused(why)) => Some(Absent::new(name, why)),
            None => Some(Absent::new(name, &late)),
        });
        let absent = member.absent.iter().map(|(name, why)| Absent::new(name, why));
        let absent = expected.chain(absent).collect();
        Others { programs, absent }
    }

    /// A program that runs; waits for it until then.
    pub(super) async fn running(&self, name: &str, until: Instant) -> Result<Arc<dyn Exporter>, String> {
        loop {
            // Made before looking, so that a start in between is not missed.
            let changed = self.changed.notified();
            let running = match self.lock().get(name) {
                Some(Standing::Known { running, .. }) => running.as_ref().and_then(Weak::upgrade),
                Some(Standing::Refused(why)) => return Err(format!("it {why}")),
                None => None,
            };
            if let Some(provider) = running.filter(|provider| provider.is_open()) {
                return Ok(provider);
            }
            let waited = timeout_at(until, changed).await;
            waited.map_err(|_| "it does not run".to_owned())?;
        }
    }

    /// Waits until all of these have been started once, or could not be, for a while.
    pub(super) async fn gathered(&self, names: &[String]) {
        let until = Instant::now() + OTHERS_PATIENCE;
        loop {
            let changed = self.changed.notified();
            let all = {
                let known = self.lock();
                names.iter().all(|name| known.contains_key(name))
            };
            if all || timeout_at(until, changed).await.is_err() {
                return;
            }
        }
    }
}

/// The other programs of a pod.
#[derive(Default)]
pub(super) struct Others {
    /// Those that are known, running or not.
    pub(super) programs: Vec<(String, Known)>,
    /// Those that are not.
    pub(super) absent: Vec<Absent>,
}
