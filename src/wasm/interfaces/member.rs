//! An instance's place among the programs of its pod.

use super::membership::Membership;
use super::provider::{Offer, Provider};
use super::registry::{Known, Others};
use crate::control::Control;
use crate::state::Blueprint;
use crate::tools::Tools;
use crate::{InstanceSpec, Network, Program, WasmError};
use std::sync::Arc;

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
                .announce(&member.membership.name, known(program), None);
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
        let running = Arc::<Provider>::downgrade(&provider);
        interfaces.announce(&self.membership.name, known(program), Some(running));
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

/// What others have to know of a program.
fn known(program: &Program) -> Known {
    Known {
        digest: program.digest().to_owned(),
        component: program.component().cloned(),
    }
}
