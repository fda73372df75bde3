//! What can be decided, what can happen, and what each does to the state.

use std::time::Duration;

use api::cidr::Addresses;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::plant::{self, Plant};
use super::resize::Resize;
use super::spec;
use super::state::{
    ContainerRecord, Doom, ExitRecord, Failure, ImageRef, ImageStage, LOST, Part, PodState, Run, backs_off,
};
use crate::config::Timing;
use crate::moment::Moment;

/// Something to be done for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find or pull a container's image.
    FetchImage {
        /// Whose.
        container: String,
    },
    /// Say that pulling waits.
    AnnounceImageBackoff {
        /// Whose image.
        container: String,
    },
    /// Make network and shim.
    MakeSandbox {
        /// All containers are Wasm: the shared namespace will do.
        wasm_only: bool,
    },
    /// Make the volumes.
    MountVolumes,
    /// Create and start a container.
    Start {
        /// Which.
        container: String,
        /// How often it was started before.
        attempt: u32,
    },
    /// Say that a restart waits.
    AnnounceCrashBackoff {
        /// Whose restart.
        container: String,
        /// The whole pause.
        delay: Duration,
    },
    /// End a container.
    Stop {
        /// Which.
        container: String,
        /// The `Killing` event's text.
        message: String,
        /// How long it is given; preStop counts towards it.
        grace: Duration,
    },
    /// Change what a running container may use.
    Resize {
        /// Which.
        container: String,
    },
    /// Give the whole pod up.
    Fail(Failure),
    /// Remove network and shim.
    RemoveSandbox,
    /// Remove the volumes.
    RemoveVolumes,
    /// Remove the pod from the API.
    Finalize,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// It was not created and may be tried again.
    Refused {
        /// `CreateContainerConfigError` or `CreateContainerError`.
        reason: String,
        /// The text behind it.
        message: String,
    },
    /// It was created and its program cannot run: counts as an exit with code 128.
    CannotRun {
        /// Container id with its scheme.
        container_id: String,
        /// The text behind it.
        message: String,
    },
    /// It was not created, since what it was to run in is gone.
    NoSandbox {
        /// The text behind it.
        message: String,
    },
    /// It was created, and whoever was to start it is gone: nobody knows whether it ran.
    Lost {
        /// Container id with its scheme.
        container_id: String,
        /// The text behind it.
        message: String,
    },
}

/// What a probe found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The startup probe passed.
    Started,
    /// The readiness probe passed or failed its threshold.
    Ready(bool),
    /// The liveness or startup probe failed its threshold.
    Kill(Doom),
}

/// Something that happened to a pod on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// An image was found or not: reason and message.
    Image(String, Result<ImageRef, (String, String)>),
    /// The sandbox was made, with the pod's address, or not.
    SandboxMade(Result<Addresses, String>),
    /// The volumes were made or not.
    VolumesMounted(Result<(), String>),
    /// A container runs.
    Started {
        /// Which.
        container: String,
        /// Container id with its scheme.
        container_id: String,
        /// Since when.
        started: Timestamp,
    },
    /// A container did not start.
    NotStarted(String, StartFailure),
    /// A container's postStart hook ended: an error's text if it failed.
    Hooked {
        /// Which.
        container: String,
        /// Container id with its scheme.
        container_id: String,
        /// The hook's error.
        error: Option<String>,
    },
    /// A probe came to a verdict.
    Probed {
        /// Which container.
        container: String,
        /// Container id with its scheme: a verdict about an earlier run is void.
        container_id: String,
        /// The verdict.
        verdict: Verdict,
    },
    /// What a container may use was changed, or could not be.
    Resized {
        /// Which.
        container: String,
        /// Container id with its scheme.
        container_id: String,
        /// What it may use now, or the kernel's text.
        result: Result<Option<ResourceRequirements>, String>,
    },
    /// A container ended.
    Exited(String, ExitRecord),
    /// The sandbox was removed or not.
    SandboxRemoved(Result<(), String>),
    /// The volumes were removed or not.
    VolumesRemoved(Result<(), String>),
    /// The API server removed the pod or not.
    Finalized(Result<(), String>),
    /// The disk has the pod's status as it is here.
    Kept,
}

impl PodState {
    /// Notes that `action` has begun.
    pub fn begin(&mut self, pod: &Pod, action: &Action, timing: &Timing, now: Moment) {
        match action {
            Action::FetchImage { container } => self.record(container).image = ImageStage::Pulling,
            Action::AnnounceImageBackoff { container } => {
                if let ImageStage::Failed { announced, .. } = &mut self.record(container).image {
                    *announced = true;
                }
            }
            Action::MakeSandbox { .. } => self.sandbox = Part::Making,
            Action::MountVolumes => self.volumes = Part::Making,
            Action::Start { container, .. } => self.begin_start(pod, container, timing, now),
            Action::AnnounceCrashBackoff { container, .. } => self.record(container).crash_announced = true,
            Action::Stop { container, grace, .. } => self.begin_stop(container, now.mono + *grace),
            Action::Resize { container } => self.record(container).resize = Resize::Under,
            Action::Fail(failure) => self.failure = Some(failure.clone()),
            Action::RemoveSandbox => self.sandbox = Part::Removing,
            Action::RemoveVolumes => self.volumes = Part::Removing,
            Action::Finalize => self.removal = Part::Making,
        }
    }

    fn begin_start(&mut self, pod: &Pod, container: &str, timing: &Timing, now: Moment) {
        let given = spec::container(pod, container).map(|(_, c)| c.resources.clone().unwrap_or_default());
        let has_startup = spec::container(pod, container).is_some_and(|(_, c)| c.startup_probe.is_some());
        let has_readiness = spec::container(pod, container).is_some_and(|(_, c)| c.readiness_probe.is_some());
        let record = self.record(container);
        if let Run::Exited(exit) = &record.run {
            record
                .crash
                .restarted(exit.finished_mono, now.mono, timing.crash_base, timing.crash_max);
            record.last = Some(exit.clone());
        }
        record.run = Run::Starting;
        (record.given, record.resize) = (given, Resize::Done);
        record.crash_announced = false;
        record.hooked = false;
        record.startup_passed = !has_startup;
        record.ready_probe = !has_readiness;
        record.doomed = None;
    }

    fn begin_stop(&mut self, container: &str, deadline: Duration) {
        let record = self.record(container);
        record.doomed = None;
        if let Run::Running {
            container_id,
            started,
        }
        | Run::Stopping {
            container_id,
            started,
            ..
        } = &record.run
        {
            record.run = Run::Stopping {
                container_id: container_id.clone(),
                started: *started,
                deadline,
            };
        }
    }

    /// Takes note of what happened.
    pub fn apply(&mut self, pod: &Pod, happening: Happening, timing: &Timing, now: Moment) {
        let again = now.mono + timing.retry;
        match happening {
            Happening::Image(container, result) => self.apply_image(&container, result, timing, now),
            Happening::SandboxMade(Ok(ip)) => (self.sandbox, self.ip) = (Part::Ready, Some(ip)),
            Happening::SandboxMade(Err(message)) => self.sandbox = Part::Failed { message, again },
            Happening::VolumesMounted(Ok(())) => self.volumes = Part::Ready,
            Happening::VolumesMounted(Err(message)) => self.volumes = Part::Failed { message, again },
            Happening::Started {
                container,
                container_id,
                started,
            } => {
                self.apply_started(&container, container_id, started);
            }
            Happening::NotStarted(container, failure) => {
                self.apply_not_started(&container, failure, again, now)
            }
            Happening::Hooked {
                container,
                container_id,
                error,
            } => {
                let doom = error.map(|_| Doom {
                    message: "FailedPostStartHook".to_owned(),
                    grace_seconds: spec::grace_seconds(pod),
                });
                self.apply_to_run(&container, &container_id, |record| match doom {
                    Some(doom) => record.doomed = Some(doom),
                    None => record.hooked = true,
                });
            }
            Happening::Probed {
                container,
                container_id,
                verdict,
            } => {
                self.apply_to_run(&container, &container_id, |record| match verdict {
                    Verdict::Started => record.startup_passed = true,
                    Verdict::Ready(ready) => record.ready_probe = ready,
                    Verdict::Kill(doom) => record.doomed = Some(doom),
                });
            }
            Happening::Resized {
                container,
                container_id,
                result,
            } => self.apply_to_run(&container, &container_id, |record| match result {
                Ok(given) => (record.given, record.resize) = (given, Resize::Done),
                Err(message) => record.resize = Resize::Failed { message, again },
            }),
            Happening::Exited(container, exit) => self.apply_exited(&container, exit),
            Happening::SandboxRemoved(result) => self.sandbox = removed(result, again),
            Happening::VolumesRemoved(result) => self.volumes = removed(result, again),
            Happening::Finalized(result) => self.removal = removed(result, again),
            Happening::Kept => drop(self.note_ends()),
        }
    }

    fn apply_image(
        &mut self,
        container: &str,
        result: Result<ImageRef, (String, String)>,
        timing: &Timing,
        now: Moment,
    ) {
        let record = self.record(container);
        record.image = match result {
            Ok(image) => {
                record.image_backoff.reset();
                ImageStage::Ready(image)
            }
            Err((reason, message)) => {
                let delay = record.image_backoff.next(timing.image_base, timing.image_max);
                // Shown as itself for a moment, then as a back-off, as the kubelet's syncs would.
                let announce = now.mono + (delay / 4).min(timing.retry);
                let announced = !backs_off(&reason);
                ImageStage::Failed {
                    reason,
                    message,
                    announce,
                    again: now.mono + delay,
                    announced,
                }
            }
        };
    }

    fn apply_started(&mut self, container: &str, container_id: String, started: Timestamp) {
        self.record(container).launch().run = Run::Running {
            container_id,
            started,
        };
    }

    fn apply_not_started(&mut self, container: &str, failure: StartFailure, again: Duration, now: Moment) {
        let exit = |container_id, code, reason: &str, message| ExitRecord {
            container_id,
            code,
            signal: 0,
            reason: reason.to_owned(),
            message,
            started: Some(now.wall),
            finished: now.wall,
            finished_mono: now.mono,
            noted: false,
        };
        match failure {
            StartFailure::Refused { reason, message } => {
                self.record(container).refuse(reason, message, again)
            }
            StartFailure::NoSandbox { message } => {
                self.lose_sandbox();
                let reason = "CreateContainerError".to_owned();
                self.record(container).refuse(reason, message, again);
            }
            StartFailure::CannotRun {
                container_id,
                message,
            } => {
                let exit = exit(container_id, 128, "ContainerCannotRun", message);
                self.record(container).launch().end(exit);
            }
            StartFailure::Lost {
                container_id,
                message,
            } => {
                self.lose_sandbox();
                let exit = exit(container_id, 137, LOST, message);
                self.record(container).launch().end(exit);
            }
        }
    }

    fn apply_exited(&mut self, container: &str, exit: ExitRecord) {
        if self.container(container).container_id() != Some(exit.container_id.as_str()) {
            return;
        }
        // Whoever should have seen it is gone: the shim.
        if exit.reason == LOST {
            self.lose_sandbox();
        }
        self.record(container).end(exit);
    }

    /// The shim is gone, and with it the sandbox as it was made.
    fn lose_sandbox(&mut self) {
        if self.sandbox == Part::Ready && !plant::has(Plant::TrustShim) {
            self.sandbox = Part::Absent;
        }
    }

    fn apply_to_run(
        &mut self,
        container: &str,
        container_id: &str,
        change: impl FnOnce(&mut ContainerRecord),
    ) {
        let record = self.record(container);
        if record.container_id() == Some(container_id) || plant::has(Plant::AnyVerdict) {
            change(record);
        }
    }

    fn record(&mut self, container: &str) -> &mut ContainerRecord {
        self.containers.entry(container.to_owned()).or_default()
    }
}

impl ContainerRecord {
    /// Counts one more run, of the image that was there for it.
    fn launch(&mut self) -> &mut ContainerRecord {
        if self.launched {
            self.restarts += 1;
        }
        self.launched = true;
        if let ImageStage::Ready(image) = &self.image {
            self.running_image = Some(image.clone());
        }
        self
    }

    /// It was not created; a refused restart still shows how the run before it ended.
    fn refuse(&mut self, reason: String, message: String, again: Duration) {
        self.run = Run::Refused {
            reason,
            message,
            again,
        };
        self.image = ImageStage::Unknown;
    }

    fn end(&mut self, exit: ExitRecord) {
        self.run = Run::Exited(exit);
        // The policy is asked again before the next start, as the kubelet does.
        self.image = ImageStage::Unknown;
        self.doomed = None;
        self.crash_announced = false;
    }
}

fn removed(result: Result<(), String>, again: Duration) -> Part {
    match result {
        Ok(()) => Part::Gone,
        Err(message) => Part::Failed { message, again },
    }
}
