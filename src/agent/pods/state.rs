//! What the agent knows of one pod: the input of [`super::decide`], changed
//! only by beginning an action and by what happened.
//!
//! ```text
//! container:   Waiting ──Start──▶ Starting ──▶ Running ──Stop──▶ Stopping
//!                 ▲                  │            │                 │
//!                 │ Refused ◀────────┤            ▼                 ▼
//!                 └──(again)         └────────▶ Exited ◀────────────┘
//!                                                 │ Start (after back-off)
//!                                                 ▼ Starting …
//! sandbox:     Absent ─▶ Making ─▶ Ready ─▶ Removing ─▶ Gone       volumes alike
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use api::cidr::Addresses;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};

use super::backoff::{CrashBackoff, Doubling};
use super::spec;
use crate::moment::Moment;

/// One of the things a pod needs once: its sandbox, its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Not there yet.
    #[default]
    Absent,
    /// Being made.
    Making,
    /// There.
    Ready,
    /// Could not be made.
    Failed {
        /// The reason.
        message: String,
        /// When to try again (monotonic).
        again: Duration,
    },
    /// Being removed.
    Removing,
    /// Removed, or never needed again.
    Gone,
}

/// An image as a container uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// The manifest's name for it.
    pub name: String,
    /// `status.containerStatuses[].imageID`.
    pub id: String,
    /// Whether it holds a Wasm program.
    pub wasm: bool,
}

/// How far a container's image is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageStage {
    /// Not looked for since the last start.
    #[default]
    Unknown,
    /// Being looked for, or pulled.
    Pulling,
    /// There.
    Ready(ImageRef),
    /// Not to be had.
    Failed {
        /// [`PULL_FAILED`], [`UNTRUSTED`], `ErrImageNeverPull`, `InvalidImageName` …
        reason: String,
        /// The text behind it.
        message: String,
        /// From when `ImagePullBackOff` is shown instead (monotonic).
        announce: Duration,
        /// When to try again (monotonic).
        again: Duration,
        /// Whether the back-off has been announced.
        announced: bool,
    },
}

/// The reason of a pull that failed.
pub const PULL_FAILED: &str = "ErrImagePull";
/// The reason of one that the node's policy refuses.
pub const UNTRUSTED: &str = "SignatureValidationFailed";

/// Whether an image that is not to be had for that reason is shown as
/// `ImagePullBackOff` until it is asked for again; what is not pulled keeps its reason.
pub fn backs_off(reason: &str) -> bool {
    matches!(reason, PULL_FAILED | UNTRUSTED)
}

/// The reason of an end that nobody saw.
pub const LOST: &str = "ContainerStatusUnknown";

/// How a container's last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Container id with its scheme; empty when it never got one.
    pub container_id: String,
    /// Exit code.
    pub code: i32,
    /// Signal, 0 for none.
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun` …
    pub reason: String,
    /// Termination message.
    pub message: String,
    /// When it started; `None` if it never ran.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// The same on the monotonic clock.
    pub finished_mono: Duration,
    /// The disk knows of it, so the runtime may forget it. Otherwise an agent that ends in between would
    /// not know that it ended, or how, and run again what had come to its end.
    pub noted: bool,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// It has not run yet.
    #[default]
    Waiting,
    /// It could not be created.
    Refused {
        /// `CreateContainerConfigError`, `CreateContainerError` …
        reason: String,
        /// The text behind it.
        message: String,
        /// When to try again (monotonic).
        again: Duration,
    },
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Container id with its scheme.
        container_id: String,
        /// Since when.
        started: Timestamp,
    },
    /// It was asked to end.
    Stopping {
        /// Container id with its scheme.
        container_id: String,
        /// Since when it has been running.
        started: Timestamp,
        /// When it is killed (monotonic).
        deadline: Duration,
    },
    /// It ended.
    Exited(ExitRecord),
}

/// The last change of what a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// None is under way.
    #[default]
    Done,
    /// It is being carried out.
    Under,
    /// The kernel refused.
    Failed {
        /// Its text.
        message: String,
        /// When to try again (monotonic).
        again: Duration,
    },
}

/// What the node could give to one pod, and what it has in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of a core that no other pod has asked for.
    pub cpu_millis: u64,
    /// Bytes that no other pod has asked for.
    pub memory_bytes: u64,
    /// Thousandths of a core of all pods together.
    pub cpu_millis_all: u64,
    /// Bytes of all pods together.
    pub memory_bytes_all: u64,
}

/// Everything about one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerRecord {
    /// Its image.
    pub image: ImageStage,
    /// The image its current run uses, once it has had one.
    pub running_image: Option<ImageRef>,
    /// What it is doing.
    pub run: Run,
    /// How often it was started again: `restartCount`.
    pub restarts: u32,
    /// Whether it was ever started, here or before a restart of the agent.
    pub launched: bool,
    /// The end of the run before the current one.
    pub last: Option<ExitRecord>,
    /// Pause between restarts.
    pub crash: CrashBackoff,
    /// Whether the current pause has been announced.
    pub crash_announced: bool,
    /// Pause between pulls.
    pub image_backoff: Doubling,
    /// postStart has run, or there is none.
    pub hooked: bool,
    /// The startup probe has succeeded, or there is none.
    pub startup_passed: bool,
    /// The readiness probe's verdict; true where there is none.
    pub ready_probe: bool,
    /// A probe or hook wants it restarted; the text for the event.
    pub doomed: Option<Doom>,
    /// What its current run may use, where that is known.
    pub given: Option<ResourceRequirements>,
    /// The last change of that.
    pub resize: Resize,
}

/// Why a running container has to go although its pod stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doom {
    /// The `Killing` event's text.
    pub message: String,
    /// Seconds it is given.
    pub grace_seconds: i64,
}

impl ContainerRecord {
    /// Whether there is a process, or soon will be.
    pub fn active(&self) -> bool {
        matches!(
            self.run,
            Run::Starting | Run::Running { .. } | Run::Stopping { .. }
        )
    }

    /// Whether it runs and has passed its hook and startup probe: `started` in the status.
    pub fn started(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Stopping { .. }) && self.hooked && self.startup_passed
    }

    /// `ready` in the status, for containers that are meant to run on.
    pub fn ready(&self) -> bool {
        self.started() && self.ready_probe
    }

    /// The exit it is in, if it is.
    pub fn exited(&self) -> Option<&ExitRecord> {
        match &self.run {
            Run::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// The id of the running container, with its scheme.
    pub fn container_id(&self) -> Option<&str> {
        match &self.run {
            Run::Running { container_id, .. } | Run::Stopping { container_id, .. } => Some(container_id),
            _ => None,
        }
    }
}

/// Reason of pods that the node gave up.
pub const EVICTED: &str = "Evicted";

/// What such a pod is given (the kubelet's `immediateEvictionGracePeriodSeconds`).
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Reason of pods that ended with their node.
pub const TERMINATED: &str = "Terminated";

/// Why a pod comes to its end before its containers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `status.reason`, such as `DeadlineExceeded`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// What its containers are given instead of their own grace.
    pub grace: Option<Duration>,
}

/// Everything about one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// Network and shim.
    pub sandbox: Part,
    /// The pod's address, kept after the sandbox is gone.
    pub ip: Option<Addresses>,
    /// Volumes.
    pub volumes: Part,
    /// By container name.
    pub containers: BTreeMap<String, ContainerRecord>,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// When the agent began with it (monotonic); moved back by what had passed before a restart.
    pub started_mono: Duration,
    /// When it must have ended (monotonic), once its end is wanted.
    pub deadline: Option<Duration>,
    /// It is gone from the API: nothing is left to report.
    pub orphaned: bool,
    /// Why it failed as a whole.
    pub failure: Option<Failure>,
    /// It was already over when the agent first saw it: with this status, which the API may not have got.
    pub over: Option<Box<PodStatus>>,
    /// Its removal from the API.
    pub removal: Part,
    /// What the node could give it, as last looked at while it wanted something else than it has.
    pub room: Option<Room>,
}

impl PodState {
    /// The state of a pod that was never seen before.
    pub fn new(pod: &Pod, now: Moment) -> PodState {
        let containers = spec::all_containers(pod).map(|(_, c)| (c.name.clone(), ContainerRecord::default()));
        PodState {
            containers: containers.collect(),
            started: Some(now.wall),
            started_mono: now.mono,
            ..PodState::default()
        }
    }

    /// The record of a container; a blank one for an unknown name.
    pub fn container(&self, name: &str) -> &ContainerRecord {
        static BLANK: std::sync::LazyLock<ContainerRecord> = std::sync::LazyLock::new(Default::default);
        self.containers.get(name).unwrap_or(&BLANK)
    }

    /// Whether nothing is left to do, ever.
    pub fn finished(&self) -> bool {
        self.removal == Part::Gone
    }

    /// Whether any container has or soon will have a process.
    pub fn any_active(&self) -> bool {
        self.containers.values().any(ContainerRecord::active)
    }

    /// Whether the disk knows every end, or knew before this agent began.
    pub fn ends_noted(&self) -> bool {
        let mut exits = self.containers.values().filter_map(ContainerRecord::exited);
        self.over.is_some() || exits.all(|exit| exit.noted)
    }

    /// Takes note that the disk has everything as it is here; whether that was news of an end.
    pub fn note_ends(&mut self) -> bool {
        let mut news = false;
        for record in self.containers.values_mut() {
            if let Run::Exited(exit) = &mut record.run {
                news |= !exit.noted;
                exit.noted = true;
            }
        }
        news
    }

    /// Takes note of a new version of the pod: its deletion, new containers' names.
    pub fn observe(&mut self, pod: &Pod, now: Moment) {
        for (_, container) in spec::all_containers(pod) {
            self.containers.entry(container.name.clone()).or_default();
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let grace = pod
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or_else(|| spec::grace_seconds(pod));
            self.end_within(grace, now);
        }
    }

    /// Takes note that the pod is gone from the API.
    pub fn observe_removed(&mut self, pod: &Pod, now: Moment) {
        self.orphaned = true;
        // Removed by force: whoever did that waits for nothing, but the program may still want its grace.
        let grace = match pod.metadata.deletion_grace_period_seconds {
            Some(0) => 0,
            _ => spec::grace_seconds(pod),
        };
        self.end_within(grace, now);
    }

    /// Takes note that the node gives the pod up; whether that was news.
    pub fn evict(&mut self, message: &str) -> bool {
        self.give_up(EVICTED, message, EVICTION_GRACE)
    }

    /// Takes note that the pod ends with the node; whether that was news.
    pub fn end_with_node(&mut self, grace: Duration) -> bool {
        self.give_up(
            TERMINATED,
            "Pod was terminated in response to imminent node shutdown.",
            grace,
        )
    }

    fn give_up(&mut self, reason: &str, message: &str, grace: Duration) -> bool {
        if self.failure.is_some() || self.over.is_some() {
            return false;
        }
        self.failure = Some(Failure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            grace: Some(grace),
        });
        true
    }

    fn end_within(&mut self, grace_seconds: i64, now: Moment) {
        let deadline = now.mono + Duration::from_secs(grace_seconds.max(0) as u64);
        // A deadline only ever moves closer: each update of a dying pod comes through here again.
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
    }
}
