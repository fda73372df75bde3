//! One task per pod: it alone changes the pod's state, asks [`super::decide`]
//! what to do, has it done, and reports.

mod inbox;
mod perform;
mod refresh;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::action::{Action, Happening};
use super::admit;
use super::decide::decide;
use super::effects::PodContext;
use super::reports::{self, Report, Reports};
use super::resize;
use super::spec;
use super::state::{Part, PodState, Run};
use super::status;
use super::table::PodView;
use crate::context::Context;
use crate::objects::OnChange;

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod as the API has it now.
    Update(Arc<Pod>),
    /// The pod is gone from the API.
    Gone,
    /// Something happened here.
    Happened(Box<Happening>),
    /// A volume's source changed, or a token is due.
    Refresh,
    /// The volumes have been brought up to date, or not.
    Refreshed,
    /// The node gives the pod up: why.
    Evict(String),
    /// The node is shut down; containers get that long at most.
    Shutdown(Duration),
    /// The API has a mirror of this static pod, which knows no status yet.
    Mirrored,
    /// The pod comes from the disk: the API may show another status.
    Remembered,
}

/// A worker's inbox.
pub type Inbox = mpsc::UnboundedSender<Message>;

/// More decisions in a row without anything happening would be a bug; the next
/// event goes on from there.
const ROUNDS_MAX: usize = 32;

/// Bringing volumes up to date: one at a time, and once more if something
/// changed meanwhile.
#[derive(Default)]
struct Refresh {
    running: bool,
    again: bool,
}

/// One pod's worker.
pub struct Worker {
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    state: PodState,
    sender: Inbox,
    inbox: mpsc::UnboundedReceiver<Message>,
    view: watch::Sender<PodView>,
    /// Everything in the background; ends with the worker.
    jobs: JoinSet<()>,
    /// Probes by container id, stops by container name.
    probes: HashMap<String, AbortHandle>,
    stops: HashMap<String, AbortHandle>,
    on_change: OnChange,
    reports: Reports,
    refresh: Refresh,
}

impl Worker {
    /// A worker for a pod in that state, its inbox, and what others see of it.
    pub fn new(
        node: Arc<Context>,
        pod: Arc<Pod>,
        state: PodState,
    ) -> (Worker, Inbox, watch::Receiver<PodView>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (view, seen) = watch::channel(PodView::of(&pod, &state, None));
        let weak = sender.downgrade();
        // Weak: what the object store holds must not keep the inbox open.
        let on_change: OnChange = Arc::new(move || {
            if let Some(sender) = weak.upgrade() {
                let _ = sender.send(Message::Refresh);
            }
        });
        let reports = Reports::new(&pod, node.clock.monotonic());
        let worker = Worker {
            context: Arc::new(PodContext::new(node)),
            pod,
            state,
            sender: sender.clone(),
            inbox,
            view,
            jobs: JoinSet::new(),
            probes: HashMap::new(),
            stops: HashMap::new(),
            on_change,
            reports,
            refresh: Refresh::default(),
        };
        (worker, sender, seen)
    }

    /// Works until the pod is gone for good.
    pub async fn run(mut self) {
        self.adopt();
        self.claim_devices().await;
        loop {
            let wake = self.decide();
            let retry = self.report();
            if self.state.finished() {
                break;
            }
            // What waited for the disk to know of an end need wait no longer.
            if self.reports.are_kept() && !self.state.ends_noted() {
                self.happened(Happening::Kept);
                continue;
            }
            self.wait(wake, retry).await;
        }
        self.context.node.objects.unfollow(spec::uid(&self.pod));
        self.jobs.shutdown().await;
        self.reports.finish().await;
        let dir = self.context.node.paths.pod(spec::uid(&self.pod));
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    }

    /// Gets the pod its processors and devices before any of its containers begins; without them it does not run here.
    async fn claim_devices(&mut self) {
        let begun = self.state.containers.values().any(|record| record.launched);
        if begun || self.state.failure.is_some() || self.state.over.is_some() {
            return;
        }
        let node = self.context.node.clone();
        let admitted = match node.cpus.admit(&self.pod) {
            Ok(()) => node.devices.admit(&self.pod).await,
            refused => refused,
        };
        if let Err(why) = admitted {
            node.cpus.release(spec::uid(&self.pod));
            let failure = admit::unexpected(&why);
            let text = failure.message.clone();
            node.event(&self.pod, None, EventType::Warning, &failure.reason, text);
            self.state.failure = Some(failure);
        }
    }

    /// Follows the containers that were running before this worker was.
    fn adopt(&mut self) {
        let running: Vec<(String, String, jiff::Timestamp)> = self
            .state
            .containers
            .iter()
            .filter_map(|(name, record)| match &record.run {
                Run::Running {
                    container_id,
                    started,
                } => Some((name.clone(), container_id.clone(), *started)),
                _ => None,
            })
            .collect();
        for (name, container_id, started) in running {
            self.follow(&name, &container_id, started);
        }
    }

    /// Decides and begins until there is nothing to begin; when to wake up.
    fn decide(&mut self) -> Option<Duration> {
        self.look_for_room();
        for _ in 0..ROUNDS_MAX {
            let (node, now) = (&self.context.node, self.context.node.now());
            let plan = decide(&self.pod, &self.state, &node.config.timing, now);
            if plan.actions.is_empty() {
                return plan.wake;
            }
            for action in plan.actions {
                let node = self.context.node.clone();
                let old = self.old_container(&action);
                self.state.begin(&self.pod, &action, &node.config.timing, now);
                self.perform(action, old);
            }
        }
        tracing::error!(pod = %spec::full_name(&self.pod), "decisions about a pod do not come to rest");
        None
    }

    /// The run that a start replaces.
    fn old_container(&self, action: &Action) -> Option<String> {
        let Action::Start { container, .. } = action else {
            return None;
        };
        let record = self.state.container(container);
        // One that was to start since, and did not, has left the run before it.
        let exit = record.exited().or(record.last.as_ref())?;
        Some(exit.container_id.clone()).filter(|id| !id.is_empty())
    }

    /// Looks at what the node could give, while the pod wants something else than it has.
    fn look_for_room(&mut self) {
        self.state.room =
            resize::pending(&self.pod, &self.state).then(|| self.context.node.room_for(spec::uid(&self.pod)));
    }

    fn status(&mut self) -> PodStatus {
        let config = &self.context.node.config;
        let view = status::View {
            pod: &self.pod,
            state: &self.state,
            previous: self.reports.made(),
            host_ip: config.node_ips(),
            timing: &config.timing,
            now: self.context.node.now(),
        };
        let status = view.status();
        self.reports.make(&status);
        status
    }

    /// Shows the state to those who look, and writes it where it changed; when
    /// to try again if that has to wait.
    fn report(&mut self) -> Option<Duration> {
        let sandbox = self.context.sandbox();
        self.view
            .send_replace(PodView::of(&self.pod, &self.state, sandbox.as_deref()));
        let status = self.status();
        // The last status goes with the removal.
        if self.state.removal != Part::Absent {
            return None;
        }
        let coming_up = match status.phase.as_deref() {
            Some("Pending") => true,
            // Again, after an earlier agent's end.
            Some("Running") => !reports::is_ready(&status),
            _ => false,
        };
        let report = Report {
            node: &self.context.node,
            pod: &self.pod,
            orphaned: self.state.orphaned,
            patient: coming_up && self.state.deadline.is_none(),
        };
        self.reports.offer(&report, status)
    }
}
