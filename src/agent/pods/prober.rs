//! The probes of one run of a container, in the real world.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use super::action::Happening;
use super::effects::{PodContext, stop};
use super::spec;
use super::worker::{Inbox, Message};
use crate::probes::ProbeKind;
use crate::probes::handler::Answer;
use crate::probes::run::{self, Plan};

/// Asks a container and tells its pod's worker.
pub struct Prober {
    /// The pod's effects.
    pub context: Arc<PodContext>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's name.
    pub name: String,
    /// Its id with its scheme.
    pub container_id: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// Its startup probe has passed before.
    pub startup_passed: bool,
    /// Where verdicts go.
    pub inbox: Inbox,
}

impl Prober {
    /// The task that asks; `None` where there is nothing to ask.
    pub fn run(self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (_, container) = spec::container(&self.pod, &self.name)?;
        let mut plan = Plan::of(&container);
        if self.startup_passed {
            plan.startup = None;
        }
        if plan.is_empty() {
            return None;
        }
        let now = self.context.node.now();
        let since_start = Duration::try_from(now.wall.duration_since(self.started)).unwrap_or_default();
        Some(async move { run::run(plan, since_start, &self).await })
    }

    fn container(&self) -> Option<Cow<'_, Container>> {
        spec::container(&self.pod, &self.name).map(|(_, container)| container)
    }

    fn spec(&self, kind: ProbeKind) -> Option<Probe> {
        let container = self.container()?;
        match kind {
            ProbeKind::Startup => container.startup_probe.clone(),
            ProbeKind::Liveness => container.liveness_probe.clone(),
            ProbeKind::Readiness => container.readiness_probe.clone(),
        }
    }
}

impl run::World for Prober {
    fn now(&self) -> Duration {
        self.context.node.clock.monotonic()
    }

    async fn sleep_until(&self, when: Duration) {
        tokio::time::sleep(when.saturating_sub(self.now())).await;
    }

    async fn ask(&self, kind: ProbeKind) -> Answer {
        let subject = stop::subject(&self.context, &self.pod, &self.name, &self.container_id);
        match (self.spec(kind), subject) {
            (Some(probe), Some(subject)) => subject.probe(&probe).await,
            // An adopted container whose sandbox is still being found again.
            _ => Answer::Later,
        }
    }

    fn complain(&self, text: String) {
        let name = Some(self.name.as_str());
        self.context
            .node
            .event(&self.pod, name, EventType::Warning, "Unhealthy", text);
    }

    fn report(&self, kind: ProbeKind, verdict: bool) {
        let Some(container) = self.container() else { return };
        let grace = spec::probe_grace_seconds(&self.pod, self.spec(kind).as_ref());
        if let Some(verdict) = run::verdict(kind, verdict, &container, grace) {
            let (container, container_id) = (self.name.clone(), self.container_id.clone());
            let happening = Happening::Probed {
                container,
                container_id,
                verdict,
            };
            let _ = self.inbox.send(Message::Happened(Box::new(happening)));
        }
    }
}
