//! From what is known of a pod to the status that the API shows, in the kubelet's words.

use api::cidr::Addresses;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions;
use super::decide::{done, init_failed, initialized};
use super::resize;
use super::spec::{self, Role};
use super::state::{ContainerRecord, ExitRecord, ImageStage, PodState, Run, backs_off};
use crate::config::Timing;
use crate::moment::Moment;

/// Everything that a status is made from.
pub struct View<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What is known of it.
    pub state: &'a PodState,
    /// The status made before this one: conditions that have not changed keep their times.
    pub previous: Option<&'a PodStatus>,
    /// The node's addresses.
    pub host_ip: Addresses,
    /// How long back-offs are.
    pub timing: &'a Timing,
    /// The present.
    pub now: Moment,
}

impl View<'_> {
    /// The status of the pod. Conditions that others own (readiness gates) are
    /// not in it: a strategic patch leaves them alone.
    pub fn status(&self) -> PodStatus {
        let (pod, state) = (self.pod, self.state);
        if let Some(last) = &state.over {
            return PodStatus::clone(last);
        }
        let init = self.statuses(spec::init_containers(pod));
        let main = self.statuses(spec::main_containers(pod).map(|c| (Role::Main, c)));
        let later: Vec<ContainerStatus> = spec::all_containers(pod)
            .filter(|(role, _)| *role == Role::Ephemeral)
            .map(|(role, container)| self.container(role, &container))
            .collect();
        let phase = phase(pod, state, &main);
        let ip = match spec::host_network(pod) {
            true => state.ip.map(|_| self.host_ip),
            false => state.ip,
        };
        let mut status = PodStatus {
            container_statuses: Some(main),
            init_container_statuses: (!init.is_empty()).then_some(init),
            ephemeral_container_statuses: (!later.is_empty()).then_some(later),
            host_ip: Some(self.host_ip.primary().to_string()),
            host_ips: Some(
                self.host_ip
                    .iter()
                    .map(|ip| HostIP { ip: ip.to_string() })
                    .collect(),
            ),
            pod_ip: ip.map(|ip| ip.primary().to_string()),
            pod_ips: ip.map(|ip| ip.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
            start_time: state.started.map(Time),
            qos_class: Some(qos_class(pod).to_owned()),
            observed_generation: pod.metadata.generation,
            ..PodStatus::default()
        };
        if let Some(failure) = &state.failure {
            status.reason = Some(failure.reason.clone());
            status.message = Some(failure.message.clone());
        }
        status.phase = Some(phase.to_owned());
        let previous = self
            .previous
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        status.conditions = Some(conditions::compute(pod, state, &status, previous, self.now));
        status
    }
}

/// The class the API server gave the pod, or the one it would give.
pub fn qos_class(pod: &Pod) -> &str {
    let given = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
    given.unwrap_or_else(|| api::pod::qos_class(spec::spec(pod)))
}

/// The pod's phase (kubelet `getPhase`).
fn phase(pod: &Pod, state: &PodState, main: &[ContainerStatus]) -> &'static str {
    if state.failure.is_some() {
        return "Failed";
    }
    if init_failed(pod, state) {
        return "Failed";
    }
    if !initialized(pod, state) {
        return "Pending";
    }
    let again = |c: &Container| {
        let record = state.container(&c.name);
        record.exited().is_none() || !done(pod, Role::Main, c, record)
    };
    // On its way out, a pod that has come to rest is judged by how its containers ended.
    let last = state.deadline.is_some() && !state.any_active();
    match main_phase(main, !last && spec::main_containers(pod).any(again)) {
        // Sidecars end after the others, and nobody may take a pod for over while something of it runs (kubelet
        // `mergePodStatus`).
        "Succeeded" | "Failed" if state.any_active() => "Running",
        found => found,
    }
}

/// `again`: some container runs, or will be started again.
fn main_phase(main: &[ContainerStatus], again: bool) -> &'static str {
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in main {
        let state = status.state.as_ref();
        if state.is_some_and(|s| s.running.is_some()) {
            running += 1;
        } else if let Some(exit) = terminated(status) {
            stopped += 1;
            succeeded += usize::from(exit.exit_code == 0);
        } else if last(status).is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    match (waiting, running, stopped) {
        (1.., ..) | (0, 0, 0) => "Pending",
        (_, 1.., _) => "Running",
        _ if again => "Running",
        _ if stopped == succeeded => "Succeeded",
        _ => "Failed",
    }
}

/// Why a container that does not run waits, as its status says it.
pub fn waiting_reason(pod: &Pod, state: &PodState, name: &str) -> String {
    match &state.container(name).image {
        ImageStage::Failed {
            reason, announced, ..
        } if *announced && backs_off(reason) => "ImagePullBackOff".to_owned(),
        ImageStage::Failed { reason, .. } => reason.clone(),
        _ if spec::init_containers(pod).next().is_some() => "PodInitializing".to_owned(),
        _ => "ContainerCreating".to_owned(),
    }
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn last(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

impl View<'_> {
    fn statuses<'c>(&self, containers: impl Iterator<Item = (Role, &'c Container)>) -> Vec<ContainerStatus> {
        containers
            .map(|(role, container)| self.container(role, container))
            .collect()
    }

    fn container(&self, role: Role, container: &Container) -> ContainerStatus {
        let record = self.state.container(&container.name);
        let (state, shows_exit) = self.face(role, container, record);
        // The exit that `state` does not show itself.
        let last = match record.exited() {
            Some(exit) if !shows_exit => Some(exit),
            _ => record.last.as_ref(),
        };
        let ready = match role {
            Role::Init => record.exited().is_some_and(|exit| exit.code == 0),
            _ => record.ready(),
        };
        let image = record.running_image.as_ref();
        let given = resize::shown(record).filter(|_| role != Role::Ephemeral);
        ContainerStatus {
            name: container.name.clone(),
            image: image.map_or_else(|| spec::image(container).to_owned(), |i| i.name.clone()),
            image_id: image.map(|i| i.id.clone()).unwrap_or_default(),
            container_id: container_id(record),
            ready,
            started: Some(record.started()),
            restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
            last_state: Some(last.map(exit_state).unwrap_or_default()),
            state: Some(state),
            allocated_resources: given.as_ref().and_then(|given| given.requests.clone()),
            resources: given,
            volume_mounts: mounts(container),
            ..ContainerStatus::default()
        }
    }

    /// What `state` shows, and whether that is the exit in the record.
    fn face(&self, role: Role, container: &Container, record: &ContainerRecord) -> (ContainerState, bool) {
        match &record.run {
            Run::Running { started, .. } | Run::Stopping { started, .. } => (running(*started), false),
            Run::Refused { reason, message, .. } => (waiting(reason, message), false),
            Run::Waiting | Run::Starting => match &record.last {
                // Being started again: the end of the last run is still the news.
                Some(exit) if record.run == Run::Starting => (exit_state(exit), false),
                _ => (self.not_yet(role, container, record), false),
            },
            Run::Exited(exit) => match self.waits(container, record, exit) {
                Some(state) => (state, false),
                None => (exit_state(exit), true),
            },
        }
    }

    /// Why a container that has not run is not running.
    fn not_yet(&self, role: Role, container: &Container, record: &ContainerRecord) -> ContainerState {
        let has_init = spec::init_containers(self.pod).next().is_some();
        let its_turn = role != Role::Main || initialized(self.pod, self.state);
        match &record.image {
            ImageStage::Failed {
                reason,
                message,
                announced,
                ..
            } if its_turn => image_waiting(container, reason, message, *announced),
            _ if has_init => waiting("PodInitializing", ""),
            _ => waiting("ContainerCreating", ""),
        }
    }

    /// Why a container that ended is not yet running again.
    fn waits(
        &self,
        container: &Container,
        record: &ContainerRecord,
        exit: &ExitRecord,
    ) -> Option<ContainerState> {
        if self.state.deadline.is_some() {
            return None;
        }
        if let ImageStage::Failed {
            reason,
            message,
            announced,
            ..
        } = &record.image
        {
            return Some(image_waiting(container, reason, message, *announced));
        }
        let (until, delay) = record
            .crash
            .waits_until(exit.finished_mono, self.timing.crash_max)?;
        if !record.crash_announced || until <= self.now.mono {
            return None;
        }
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            api::go::duration(delay),
            container.name,
            spec::full_name(self.pod)
        );
        Some(waiting("CrashLoopBackOff", &message))
    }
}

fn image_waiting(container: &Container, reason: &str, message: &str, announced: bool) -> ContainerState {
    if !announced || !backs_off(reason) {
        return waiting(reason, message);
    }
    let image = spec::image(container);
    let message = format!("Back-off pulling image {image:?}: {reason}: {message}");
    waiting("ImagePullBackOff", &message)
}

/// What the container sees of volumes, and how read-only that is.
fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let list = container.volume_mounts.as_ref()?.iter();
    let shown = list.map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.recursive_read_only.as_deref().map(|wanted| match wanted {
            "IfPossible" | "Enabled" => "Enabled".to_owned(),
            other => other.to_owned(),
        }),
        ..VolumeMountStatus::default()
    });
    Some(shown.collect())
}

fn container_id(record: &ContainerRecord) -> Option<String> {
    let exit_id = |exit: &ExitRecord| Some(exit.container_id.clone()).filter(|id| !id.is_empty());
    match &record.run {
        Run::Running { container_id, .. } | Run::Stopping { container_id, .. } => Some(container_id.clone()),
        Run::Exited(exit) => exit_id(exit),
        _ => record.last.as_ref().and_then(exit_id),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn running(started: jiff::Timestamp) -> ContainerState {
    let running = ContainerStateRunning {
        started_at: Some(Time(started)),
    };
    ContainerState {
        running: Some(running),
        ..ContainerState::default()
    }
}

fn exit_state(exit: &ExitRecord) -> ContainerState {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let terminated = ContainerStateTerminated {
        container_id: some(&exit.container_id),
        exit_code: exit.code,
        signal: (exit.signal != 0).then_some(exit.signal),
        reason: some(&exit.reason),
        message: some(&exit.message),
        started_at: exit.started.map(Time),
        finished_at: Some(Time(exit.finished)),
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}
