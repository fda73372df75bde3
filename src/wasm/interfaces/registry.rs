//! The programs of one pod by the names under which they know one another.

use super::Offer;
use super::provider::Provider;
use crate::host::Tools;
use crate::instance::Control;
use crate::state::Blueprint;
use crate::{InstanceSpec, Network, Program, WasmError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a program that imports something waits for others of its pod that are still on their way.
const OTHERS_PATIENCE: Duration = Duration::from_secs(15);

/// What an instance is among the programs of its pod.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Its name there.
    pub name: String,
    /// Whether the others may call what it exports.
    pub provides: bool,
    /// Programs that are there as well, or will be soon: what nobody has exported yet they may.
    pub others: Vec<String>,
    /// Programs that would be there, but are not for now: their names, and what can be said of them.
    pub absent: Vec<(String, String)>,
    /// Which program provides an interface, where several could.
    pub chosen: Vec<(String, String)>,
}

/// A program that cannot provide anything for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// What is the matter, as words that follow the name.
    pub why: String,
}

impl Absent {
    pub(super) fn new(name: &str, why: impl Into<String>) -> Absent {
        Absent {
            name: name.to_owned(),
            why: why.into(),
        }
    }
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.name, self.why)
    }
}

/// The programs of one pod and what they export. Belongs to the pod's [`Network`], so that those of other pods are not to
/// be found in it.
#[derive(Default)]
pub struct Interfaces {
    // A std mutex: nothing awaits while it is held.
    known: Mutex<HashMap<String, Standing>>,
    changed: Notify,
}

/// What is known of a program.
enum Standing {
    /// It has been started at least once. Its types stay known while it is between two runs.
    Known {
        program: Program,
        running: Weak<Provider>,
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
    fn announce(&self, name: &str, program: &Program, running: Weak<Provider>) {
        let program = program.clone();
        self.set(name, Standing::Known { program, running });
    }

    /// All programs but that member's own, in the order of their names.
    fn others(&self, member: &Membership) -> Others {
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
    pub(super) async fn running(&self, name: &str, until: Instant) -> Result<Arc<Provider>, String> {
        loop {
            // Made before looking, so that a start in between is not missed.
            let changed = self.changed.notified();
            let running = match self.lock().get(name) {
                Some(Standing::Known { running, .. }) => running.upgrade(),
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
    async fn gathered(&self, names: &[String]) {
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
    pub(super) programs: Vec<(String, Program)>,
    /// Those that are not.
    pub(super) absent: Vec<Absent>,
}

/// An instance's place in its pod.
pub(crate) struct Member {
    membership: Membership,
    pub(super) network: Arc<dyn Network>,
}

impl Member {
    /// Takes its place, and makes the program known, before it looks for others: those may be looking for it.
    pub(crate) fn join(program: &Program, spec: &mut InstanceSpec) -> Option<Member> {
        let member = Member {
            membership: spec.membership.take()?,
            network: spec.network.clone(),
        };
        if member.membership.provides {
            member
                .network
                .interfaces()?
                .announce(&member.membership.name, program, Weak::new());
        }
        Some(member)
    }

    pub(super) fn name(&self) -> &str {
        &self.membership.name
    }

    /// The program that was chosen for an interface. Nobody provides for itself: one that passes on what it imports
    /// gets that from somebody else.
    pub(super) fn chosen(&self, interface: &str) -> Option<&str> {
        let mut chosen = self.membership.chosen.iter();
        let (_, name) = chosen.find(|(wanted, name)| wanted == interface && *name != self.membership.name)?;
        Some(name)
    }

    /// The pod's other programs, once all that are on their way are there.
    pub(super) async fn others(&self) -> Others {
        let Some(interfaces) = self.network.interfaces() else {
            return Others::default();
        };
        interfaces.gathered(&self.membership.others).await;
        interfaces.others(&self.membership)
    }

    /// Lets the others call what it exports, as long as the offer is held. None: there is nothing to call, or nobody
    /// who may.
    pub(crate) fn offer(
        &self,
        tools: Arc<Tools>,
        program: &Program,
        blueprint: &Arc<Blueprint>,
        control: &Arc<Control>,
        reuse: bool,
    ) -> Option<Offer> {
        let interfaces = self.network.interfaces().filter(|_| self.membership.provides)?;
        if !program.exports() {
            return None;
        }
        let provider = Provider::new(tools, program.clone(), blueprint.clone(), control.clone(), reuse);
        interfaces.announce(&self.membership.name, program, Arc::downgrade(&provider));
        Some(Offer(provider))
    }

    /// Refuses a program that does nothing by itself where nobody can call it.
    pub(crate) fn check(member: Option<&Member>) -> Result<(), WasmError> {
        let is_callable =
            |member: &Member| member.membership.provides && member.network.interfaces().is_some();
        match member.is_some_and(is_callable) {
            true => Ok(()),
            false => Err(WasmError::Unsupported(
                "the component cannot be started: it exports neither `wasi:cli/run` nor \
                 `wasi:http/incoming-handler` of WASI 0.2, and there is nobody who could call what it exports"
                    .to_owned(),
            )),
        }
    }
}
