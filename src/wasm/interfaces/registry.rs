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
    /// Which program provides an interface, where several could.
    pub chosen: Vec<(String, String)>,
}

/// The programs of one pod and what they export. Belongs to the pod's [`Network`], so that those of other pods are not to
/// be found in it.
#[derive(Default)]
pub struct Interfaces {
    // A std mutex: nothing awaits while it is held.
    known: Mutex<HashMap<String, Known>>,
    changed: Notify,
}

/// A program that has been started at least once. Its types stay known while it is between two runs.
struct Known {
    program: Program,
    running: Weak<Provider>,
}

impl Interfaces {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a program known, with its run if there is one already.
    fn announce(&self, name: &str, program: &Program, running: Weak<Provider>) {
        let known = Known {
            program: program.clone(),
            running,
        };
        self.lock().insert(name.to_owned(), known);
        self.changed.notify_waiters();
    }

    /// All programs but one, in the order of their names.
    pub(super) fn others(&self, own: &str) -> Vec<(String, Program)> {
        let known = self.lock();
        let others = known.iter().filter(|(name, _)| *name != own);
        let mut others: Vec<_> = others
            .map(|(name, known)| (name.clone(), known.program.clone()))
            .collect();
        others.sort_by(|(one, _), (other, _)| one.cmp(other));
        others
    }

    /// A program that runs; waits for it until then.
    pub(super) async fn running(&self, name: &str, until: Instant) -> Option<Arc<Provider>> {
        loop {
            // Made before looking, so that a start in between is not missed.
            let changed = self.changed.notified();
            let provider = self.lock().get(name).and_then(|known| known.running.upgrade());
            if let Some(provider) = provider.filter(|provider| provider.is_open()) {
                return Some(provider);
            }
            timeout_at(until, changed).await.ok()?;
        }
    }

    /// Waits until all of these have been started once, for a while.
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
    pub(super) async fn others(&self) -> Vec<(String, Program)> {
        let Some(interfaces) = self.network.interfaces() else {
            return Vec::new();
        };
        interfaces.gathered(&self.membership.others).await;
        interfaces.others(&self.membership.name)
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
