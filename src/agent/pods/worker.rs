//! One task per pod: it alone changes the pod's state, asks [`super::decide`]
//! what to do, has it done, and reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::action::{Action, Happening};
use super::decide::decide;
use super::effects::{PodContext, finish, image, sandbox, start, stop, volume_images};
use super::prober;
use super::report;
use super::reports::{Report, Reports};
use super::resize;
use super::spec;
use super::state::{EVICTED, Part, PodState, Run};
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

/// Bringing volumes up to date: one at a time, and once more if something
/// changed meanwhile.
#[derive(Default)]
struct Refresh {
    running: bool,
    again: bool,
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
        let exit = self.state.container(container).exited()?;
        Some(exit.container_id.clone()).filter(|id| !id.is_empty())
    }

    fn perform(&mut self, action: Action, old: Option<String>) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        match action {
            Action::FetchImage { container } => {
                let launched = self.state.container(&container).launched;
                self.job(async move {
                    let found = image::fetch(context, pod, &container, launched).await;
                    Happening::Image(container, found)
                });
            }
            Action::AnnounceImageBackoff { container } => self.tell_image_backoff(&container),
            Action::AnnounceCrashBackoff { container, .. } => {
                let name = spec::full_name(&pod);
                let text = format!("Back-off restarting failed container {container} in pod {name}");
                context
                    .node
                    .event(&pod, Some(&container), EventType::Warning, "BackOff", text);
            }
            Action::MakeSandbox { wasm_only } => {
                let wanted = self.state.ip.map(|ip| ip.primary());
                self.job(async move {
                    Happening::SandboxMade(sandbox::make(context, pod, wasm_only, wanted).await)
                });
            }
            Action::MountVolumes => self.mount(context, pod),
            Action::Start { container, attempt } => self.start(container, attempt, old),
            Action::Stop {
                container,
                message,
                grace,
            } => self.stop(&container, message, grace),
            Action::Resize { container } => self.resize(container),
            Action::Fail(failure) => {
                context
                    .node
                    .event(&pod, None, EventType::Normal, &failure.reason, failure.message);
            }
            Action::RemoveSandbox => {
                self.job(async move { Happening::SandboxRemoved(sandbox::remove(context, pod).await) });
            }
            Action::RemoveVolumes => self.job(async move {
                Happening::VolumesRemoved(context.node.volumes.remove(spec::uid(&pod)).await)
            }),
            Action::Finalize => self.finalize(context, pod),
        }
    }

    /// Runs an effect in the background; what happened comes by the inbox.
    fn job(&mut self, effect: impl Future<Output = Happening> + Send + 'static) {
        let sender = self.sender.clone();
        self.jobs.spawn(async move {
            let _ = sender.send(Message::Happened(Box::new(effect.await)));
        });
    }

    fn tell_image_backoff(&self, container: &str) {
        let Some((_, spec)) = spec::container(&self.pod, container) else {
            return;
        };
        let image = spec::image(&spec);
        let node = &self.context.node;
        let text = format!("Back-off pulling image {image:?}");
        node.event(&self.pod, Some(container), EventType::Normal, "BackOff", text);
        node.event(
            &self.pod,
            Some(container),
            EventType::Warning,
            "Failed",
            "Error: ImagePullBackOff",
        );
    }

    fn mount(&mut self, context: Arc<PodContext>, pod: Arc<Pod>) {
        context.node.volumes.follow(&pod, &self.on_change);
        self.job(async move {
            let made = match volume_images::make(&context, &pod).await {
                Ok(()) => context.node.volumes.make(&pod, &context.tokens).await,
                Err(error) => Err(error),
            };
            Happening::VolumesMounted(made.map_err(|error| {
                let text = error.to_string();
                context
                    .node
                    .event(&pod, None, EventType::Warning, "FailedMount", text.clone());
                text
            }))
        });
    }

    fn start(&mut self, container: String, attempt: u32, old: Option<String>) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let target = spec::target_of(&pod, &container)
            .and_then(|name| self.state.container(name).container_id())
            .map(str::to_owned);
        let order = start::Order {
            container: container.clone(),
            attempt,
            old,
            target,
        };
        self.job(async move {
            match start::start(context, pod, order).await {
                Ok(running) => Happening::Started {
                    container,
                    container_id: running.container_id,
                    started: running.started,
                },
                Err(failure) => Happening::NotStarted(container, failure),
            }
        });
    }

    /// Waits for a running container's end and probes it meanwhile.
    fn follow(&mut self, name: &str, container_id: &str, started: jiff::Timestamp) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let record = self.state.container(name);
        let (attempt, name, id) = (record.restarts, name.to_owned(), container_id.to_owned());
        let passed = record.startup_passed;
        self.job(async move {
            let exit = start::follow(context, pod, name.clone(), id, attempt, started).await;
            Happening::Exited(name, exit)
        });
        self.probe(container_id, started, passed);
    }

    fn probe(&mut self, container_id: &str, started: jiff::Timestamp, startup_passed: bool) {
        let name = self
            .state
            .containers
            .iter()
            .find(|(_, r)| r.container_id() == Some(container_id));
        let Some(name) = name.map(|(name, _)| name.clone()) else {
            return;
        };
        let prober = prober::Prober {
            context: self.context.clone(),
            pod: self.pod.clone(),
            name,
            container_id: container_id.to_owned(),
            started,
            startup_passed,
            inbox: self.sender.clone(),
        };
        if let Some(run) = prober.run() {
            let handle = self.jobs.spawn(run);
            self.probes.insert(container_id.to_owned(), handle);
        }
    }

    fn after_start(&mut self, name: &str, container_id: &str, started: jiff::Timestamp) {
        self.follow(name, container_id, started);
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let (container, container_id) = (name.to_owned(), container_id.to_owned());
        self.job(async move {
            let error = stop::post_start(context, pod, &container, &container_id)
                .await
                .err();
            Happening::Hooked {
                container,
                container_id,
                error,
            }
        });
    }

    fn stop(&mut self, name: &str, message: String, grace: Duration) {
        let Some(id) = self.state.container(name).container_id().map(str::to_owned) else {
            return;
        };
        // A second stop is a shorter one: the first one's patience ends with it.
        let hurry = self.stops.remove(name).inspect(AbortHandle::abort).is_some();
        let (context, pod, container) = (self.context.clone(), self.pod.clone(), name.to_owned());
        let handle = self.jobs.spawn(async move {
            stop::stop(context, pod, &container, &id, &message, grace, hurry).await;
        });
        self.stops.insert(name.to_owned(), handle);
    }

    fn resize(&mut self, container: String) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let Some(id) = self.state.container(&container).container_id().map(str::to_owned) else {
            return;
        };
        self.job(async move {
            let result = stop::resize(context, pod, &container, &id).await;
            Happening::Resized {
                container,
                container_id: id,
                result,
            }
        });
    }

    /// Looks at what the node could give, while the pod wants something else than it has.
    fn look_for_room(&mut self) {
        self.state.room =
            resize::pending(&self.pod, &self.state).then(|| self.context.node.room_for(spec::uid(&self.pod)));
    }

    fn finalize(&mut self, context: Arc<PodContext>, pod: Arc<Pod>) {
        let status = report::patch_of(&self.status());
        let orphaned = self.state.orphaned;
        let mut reports = std::mem::take(&mut self.reports);
        self.job(async move {
            // Writes stay in order: an earlier status must not come after the last.
            reports.finish().await;
            let result = finish::finalize(context, pod.clone(), status, orphaned).await;
            if let Err(error) = &result {
                tracing::debug!(pod = spec::name(&pod), %error, "a pod was not yet removed from the API");
            }
            Happening::Finalized(result)
        });
    }

    // --- what comes in ---

    async fn wait(&mut self, wake: Option<Duration>, retry: Option<Duration>) {
        let now = self.context.node.clock.monotonic();
        let refresh = self.refresh_in().map(|after| now + after);
        let until = [wake, retry, refresh].into_iter().flatten().min();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep(until.saturating_sub(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(message) = self.inbox.recv() => self.take(message),
            () = timer => {
                let due = refresh.is_some_and(|at| at <= self.context.node.clock.monotonic());
                if due && self.context.node.volumes.is_due(&self.context.tokens) {
                    self.refresh();
                }
            }
            written = self.reports.written() => self.reports.settle(written, self.context.node.clock.monotonic()),
            Some(ended) = self.jobs.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(pod = %spec::full_name(&self.pod), %error, "an effect broke off");
                }
            }
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.context.node.now();
        match message {
            Message::Update(pod) => {
                let changed = self.pod.metadata.labels != pod.metadata.labels
                    || self.pod.metadata.annotations != pod.metadata.annotations;
                self.reports.heard(&pod);
                self.pod = pod;
                self.state.observe(&self.pod, now);
                if changed {
                    // The downward API shows them.
                    self.refresh();
                }
            }
            Message::Gone => self.state.observe_removed(&self.pod, now),
            Message::Happened(happening) => self.happened(*happening),
            Message::Refresh => self.refresh(),
            Message::Refreshed => self.refreshed(),
            Message::Evict(why) => self.evict(&why),
            Message::Shutdown(grace) => self.end_with_node(grace),
            Message::Mirrored => self.reports.forget(),
            Message::Remembered => self.reports.doubt(),
        }
    }

    fn evict(&mut self, why: &str) {
        if self.state.evict(why) {
            let node = &self.context.node;
            node.event(&self.pod, None, EventType::Warning, EVICTED, why);
        }
    }

    fn end_with_node(&mut self, grace: Duration) {
        let own = Duration::from_secs(spec::grace_seconds(&self.pod).max(0).unsigned_abs());
        self.state.end_with_node(grace.min(own));
    }

    fn happened(&mut self, happening: Happening) {
        let now = self.context.node.now();
        let begun = match &happening {
            Happening::Started {
                container,
                container_id,
                started,
            } => Some((container.clone(), container_id.clone(), *started)),
            Happening::Exited(container, exit) => {
                if let Some(probe) = self.probes.remove(&exit.container_id) {
                    probe.abort();
                }
                self.stops.remove(container);
                None
            }
            Happening::SandboxRemoved(Err(error)) | Happening::VolumesRemoved(Err(error)) => {
                tracing::warn!(pod = spec::name(&self.pod), %error, "a pod was not cleaned up, trying again");
                None
            }
            _ => None,
        };
        let timing = self.context.node.config.timing;
        self.state.apply(&self.pod, happening, &timing, now);
        if let Some((name, id, started)) = begun {
            self.after_start(&name, &id, started);
        }
    }

    // --- volumes that change ---

    fn refresh_in(&self) -> Option<Duration> {
        if self.refresh.running || self.state.volumes != Part::Ready {
            return None;
        }
        self.context.node.volumes.refresh_in(&self.context.tokens)
    }

    fn refresh(&mut self) {
        if self.state.volumes != Part::Ready || self.state.deadline.is_some() {
            return;
        }
        if self.refresh.running {
            self.refresh.again = true;
            return;
        }
        self.refresh.running = true;
        let (context, pod, sender) = (self.context.clone(), self.pod.clone(), self.sender.clone());
        self.jobs.spawn(async move {
            if let Err(error) = context.node.volumes.make(&pod, &context.tokens).await {
                tracing::warn!(pod = spec::name(&pod), %error, "a volume was not brought up to date");
            }
            let _ = sender.send(Message::Refreshed);
        });
    }

    fn refreshed(&mut self) {
        self.refresh.running = false;
        if std::mem::take(&mut self.refresh.again) {
            self.refresh();
        }
    }

    // --- what goes out ---

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
        let coming_up = status.phase.as_deref() == Some("Pending") && self.state.deadline.is_none();
        let report = Report {
            node: &self.context.node,
            pod: &self.pod,
            orphaned: self.state.orphaned,
            patient: coming_up,
        };
        self.reports.offer(&report, status)
    }
}
