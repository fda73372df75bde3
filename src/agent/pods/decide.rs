//! The pod state machine: from a pod and what is known of it to what should be
//! done now. No I/O, no clock of its own, no memory besides [`PodState`].
//!
//! ```text
//! images ─▶ sandbox + volumes ─▶ init containers and sidecars, in order ─▶ main containers
//!                 deletion, deadline, completion ─▶ main containers stop ─▶ sidecars, last first
//!                                      ─▶ sandbox and volumes go ─▶ the pod goes
//! ```

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};

mod ending;

use super::action::Action;
use super::plant::{self, Plant};
use super::resize::{self, Resize, Step};
use super::spec::{self, Role};
use super::state::{ContainerRecord, Failure, ImageStage, Part, PodState, Run};
use crate::config::Timing;
use crate::moment::Moment;

/// What is to be done, and when to ask again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; all may run at the same time.
    pub actions: Vec<Action>,
    /// Monotonic time at which to decide again.
    pub wake: Option<Duration>,
}

impl Plan {
    fn wake_at(&mut self, when: Duration) {
        self.wake = Some(self.wake.map_or(when, |old| old.min(when)));
    }
}

/// How soon a change that waits for room is looked at again.
const RESIZE_AGAIN: Duration = Duration::from_secs(10);

/// Decides what to do for a pod.
pub fn decide(pod: &Pod, state: &PodState, timing: &Timing, now: Moment) -> Plan {
    let mut decision = Decision {
        pod,
        state,
        timing,
        now,
        plan: Plan::default(),
    };
    decision.run();
    decision.plan
}

/// Whether the pod's containers have all come to their end for good, or the
/// pod as a whole has failed.
pub fn completed(pod: &Pod, state: &PodState) -> bool {
    if state.over.is_some() || state.failure.is_some() {
        return true;
    }
    if init_failed(pod, state) {
        return true;
    }
    spec::main_containers(pod).all(|c| done(pod, Role::Main, c, state.container(&c.name)))
}

/// Whether an init container has failed for good.
pub fn init_failed(pod: &Pod, state: &PodState) -> bool {
    spec::init_containers(pod)
        .filter(|(role, _)| *role == Role::Init)
        .any(|(role, c)| {
            let record = state.container(&c.name);
            record.exited().is_some_and(|exit| exit.code != 0) && done(pod, role, c, record)
        })
}

/// Whether every init container has done its part: ended well, or runs as a sidecar.
pub fn initialized(pod: &Pod, state: &PodState) -> bool {
    // Once a main container was launched, a sidecar that restarts does not undo it.
    spec::main_containers(pod).any(|c| state.container(&c.name).launched)
        || spec::init_containers(pod).all(|(role, c)| {
            let record = state.container(&c.name);
            match role {
                Role::Sidecar => record.started(),
                _ => record.exited().is_some_and(|exit| exit.code == 0),
            }
        })
}

/// Whether a container has ended and its policy does not bring it back.
pub fn done(pod: &Pod, role: Role, container: &Container, record: &ContainerRecord) -> bool {
    record
        .exited()
        .is_some_and(|exit| !spec::restarts(pod, role, container, exit.code))
}

struct Decision<'a> {
    pod: &'a Pod,
    state: &'a PodState,
    timing: &'a Timing,
    now: Moment,
    plan: Plan,
}

impl Decision<'_> {
    fn run(&mut self) {
        if self.state.finished() {
            return;
        }
        if self.state.deadline.is_some() || completed(self.pod, self.state) {
            return self.wind_down();
        }
        if let Some(failure) = self.overdue() {
            return self.push(Action::Fail(failure));
        }
        self.bring_up();
    }

    fn push(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    /// `activeDeadlineSeconds`.
    fn overdue(&mut self) -> Option<Failure> {
        let seconds = spec::spec(self.pod).active_deadline_seconds?;
        let deadline = self.state.started_mono + Duration::from_secs(seconds.max(0) as u64);
        if self.now.mono < deadline {
            self.plan.wake_at(deadline);
            return None;
        }
        Some(Failure {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than the specified deadline".to_owned(),
            grace: None,
        })
    }

    // --- the way up ---

    fn bring_up(&mut self) {
        let sandbox_pending = matches!(
            self.state.sandbox,
            Part::Absent | Part::Failed { .. } | Part::Making
        );
        if sandbox_pending {
            // All images at once: what they hold decides what sandbox the pod needs.
            for (role, container) in spec::containers(self.pod) {
                let record = self.state.container(&container.name);
                // What outlived the agent needs no image now.
                if !record.active() && !done(self.pod, role, container, record) {
                    self.fetch_image(container);
                }
            }
        }
        self.make_sandbox();
        if self.due(&self.state.volumes) {
            self.push(Action::MountVolumes);
        }
        if self.state.sandbox == Part::Ready && self.state.volumes == Part::Ready {
            self.start_containers();
        }
    }

    fn due(&mut self, part: &Part) -> bool {
        match part {
            Part::Absent => true,
            Part::Failed { again, .. } if *again <= self.now.mono => true,
            Part::Failed { again, .. } => {
                self.plan.wake_at(*again);
                false
            }
            _ => false,
        }
    }

    fn make_sandbox(&mut self) {
        // Who begins before something is mounted may not see it.
        if spec::mounts_first(self.pod) && self.state.volumes != Part::Ready {
            return;
        }
        let pending: Vec<&ContainerRecord> = spec::containers(self.pod)
            .map(|(role, c)| (role, c, self.state.container(&c.name)))
            .filter(|(role, c, record)| !done(self.pod, *role, c, record))
            .map(|(_, _, record)| record)
            .collect();
        let settled = |r: &&ContainerRecord| {
            r.active() || matches!(r.image, ImageStage::Ready(_) | ImageStage::Failed { .. })
        };
        if pending.iter().all(settled) && self.due(&self.state.sandbox) {
            // An image that is not known may hold anything: an own namespace suits both.
            let security = spec::spec(self.pod).security_context.as_ref();
            let sysctls = security
                .and_then(|s| s.sysctls.as_ref())
                .is_some_and(|s| !s.is_empty());
            // Sysctls belong to a namespace: a pod that sets some has its own.
            let wasm_only = !sysctls
                && pending
                    .iter()
                    .all(|record| match (&record.image, &record.running_image) {
                        (ImageStage::Ready(image), _) => image.wasm,
                        (_, Some(image)) => record.active() && image.wasm,
                        _ => false,
                    });
            self.push(Action::MakeSandbox { wasm_only });
        }
    }

    /// Starts a container's image on its way; true when it is there.
    fn fetch_image(&mut self, container: &Container) -> bool {
        let state = self.state;
        let name = || container.name.clone();
        match &state.container(&container.name).image {
            ImageStage::Ready(_) => return true,
            ImageStage::Pulling => {}
            ImageStage::Unknown => self.push(Action::FetchImage { container: name() }),
            ImageStage::Failed {
                announce,
                again,
                announced,
                ..
            } => {
                if *again <= self.now.mono {
                    self.push(Action::FetchImage { container: name() });
                } else if !announced && *announce <= self.now.mono {
                    self.push(Action::AnnounceImageBackoff { container: name() });
                    self.plan.wake_at(*again);
                } else {
                    self.plan.wake_at(if *announced { *again } else { *announce });
                }
            }
        }
        false
    }

    fn start_containers(&mut self) {
        // Whoever debugs a pod wants to see it before it is well.
        for (role, container) in spec::all_containers(self.pod).filter(|(role, _)| *role == Role::Ephemeral) {
            self.keep_running(role, &container, self.state.container(&container.name));
        }
        let initialized = initialized(self.pod, self.state);
        for (role, container) in spec::init_containers(self.pod) {
            let record = self.state.container(&container.name);
            match role {
                Role::Sidecar => {
                    self.keep_running(role, container, record);
                    if !initialized && !record.started() {
                        return;
                    }
                }
                _ if initialized || record.exited().is_some_and(|exit| exit.code == 0) => {}
                _ => {
                    self.keep_running(role, container, record);
                    if !plant::has(Plant::StartEarly) {
                        return;
                    }
                }
            }
        }
        for container in spec::main_containers(self.pod) {
            self.keep_running(Role::Main, container, self.state.container(&container.name));
        }
    }

    fn keep_running(&mut self, role: Role, container: &Container, record: &ContainerRecord) {
        match &record.run {
            Run::Waiting => self.start(container, record),
            Run::Refused { again, .. } if *again <= self.now.mono => self.start(container, record),
            Run::Refused { again, .. } => self.plan.wake_at(*again),
            Run::Starting => {}
            Run::Stopping { deadline, .. } => self.stop_again(container, *deadline),
            Run::Running { .. } => {
                if !self.stop_if_doomed(container, record) {
                    self.resize(container, record);
                }
            }
            Run::Exited(exit) => {
                // A new run makes the runtime forget this one, which the disk must know first.
                let forgettable = exit.noted || plant::has(Plant::ForgetAtOnce);
                if !forgettable || done(self.pod, role, container, record) {
                    return;
                }
                match record
                    .crash
                    .waits_until(exit.finished_mono, self.timing.crash_max)
                {
                    Some((until, delay)) if until > self.now.mono => {
                        self.plan.wake_at(until);
                        if !record.crash_announced {
                            let container = container.name.clone();
                            self.push(Action::AnnounceCrashBackoff { container, delay });
                        }
                    }
                    _ => self.start(container, record),
                }
            }
        }
    }

    fn start(&mut self, container: &Container, record: &ContainerRecord) {
        if self.fetch_image(container) {
            let attempt = if record.launched { record.restarts + 1 } else { 0 };
            self.push(Action::Start {
                container: container.name.clone(),
                attempt,
            });
        }
    }

    /// Ends a container that has to begin anew; whether it does.
    fn stop_if_doomed(&mut self, container: &Container, record: &ContainerRecord) -> bool {
        let changed = record
            .running_image
            .as_ref()
            .is_some_and(|image| image.name != spec::image(container));
        let name = &container.name;
        let (message, grace_seconds) = match &record.doomed {
            Some(doom) => (doom.message.clone(), doom.grace_seconds),
            None if changed => (
                format!("Container {name} definition changed, will be restarted"),
                spec::grace_seconds(self.pod),
            ),
            None => return false,
        };
        self.stop_for_restart(container, message, grace_seconds);
        true
    }

    fn stop_for_restart(&mut self, container: &Container, message: String, grace_seconds: i64) {
        self.push(Action::Stop {
            container: container.name.clone(),
            message,
            grace: Duration::from_secs(grace_seconds.max(0) as u64),
        });
    }

    /// Brings a running container to what its pod says that it may use.
    fn resize(&mut self, container: &Container, record: &ContainerRecord) {
        let Some(step) = resize::step(container, record) else {
            return;
        };
        if self.state.room.is_none() || resize::waits(self.pod, self.state).is_some() {
            return self.plan.wake_at(self.now.mono + RESIZE_AGAIN);
        }
        match &record.resize {
            Resize::Under => {}
            Resize::Failed { again, .. } if *again > self.now.mono => self.plan.wake_at(*again),
            _ if step == Step::Restart => {
                let text = format!("Container {} resize requires restart", container.name);
                self.stop_for_restart(container, text, spec::grace_seconds(self.pod));
            }
            _ => self.push(Action::Resize {
                container: container.name.clone(),
            }),
        }
    }
}
