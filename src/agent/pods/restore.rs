//! The state of a pod that was seen before: from its last status and from what still runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::cidr::Addresses;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::plant::{self, Plant};
use super::spec::{self, Role};
use super::state::{ContainerRecord, ExitRecord, ImageRef, LOST, PodState, Run};
use crate::moment::Moment;

/// The last run of a container that outlived the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// How often the container had been started before.
    pub attempt: u32,
    /// What became of it.
    pub run: Outlived,
}

/// What became of a run that outlived the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlived {
    /// It runs.
    Running {
        /// Its id, with its scheme.
        container_id: String,
        /// Since when.
        started: Timestamp,
    },
    /// It ended while nobody watched.
    Exited(ExitRecord),
}

/// The state with which a worker continues. `pod` carries the last status that
/// was written (or kept on disk); `survivors` are the pod's containers found
/// on this machine, by name.
pub fn restore(pod: &Pod, survivors: &BTreeMap<String, Survivor>, now: Moment) -> PodState {
    let mut state = PodState::new(pod, now);
    // What runs may be older than the first status that was written.
    let unknown = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&unknown);
    if let Some(started) = &status.start_time {
        let passed = now.wall.duration_since(started.0);
        state.started = Some(started.0);
        state.started_mono = now
            .mono
            .saturating_sub(Duration::try_from(passed).unwrap_or_default());
    }
    state.ip = addresses(status);
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    state.over = (over && !plant::has(Plant::BeginAnew)).then(|| Box::new(status.clone()));
    for (role, container) in spec::all_containers(pod) {
        let old = status_of(status, role, &container.name);
        let survivor = survivors.get(&container.name);
        let survivor = survivor.filter(|_| !plant::has(Plant::AdoptNothing));
        let record = record(&container, old, survivor, now);
        state.containers.insert(container.name.clone(), record);
    }
    // Containers are added to a pod while it runs, and what was kept of it may be older than that.
    for (name, survivor) in survivors {
        if plant::has(Plant::AdoptKnown) {
            continue;
        }
        let unknown = || record(&Container::default(), None, Some(survivor), now);
        state.containers.entry(name.clone()).or_insert_with(unknown);
    }
    state.observe(pod, now);
    state
}

fn addresses(status: &PodStatus) -> Option<Addresses> {
    let primary: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    let others = status.pod_ips.iter().flatten().skip(1);
    let secondary = others.filter_map(|other| other.ip.parse().ok()).next();
    Some(Addresses::from(primary).and(secondary))
}

fn status_of<'a>(status: &'a PodStatus, role: Role, name: &str) -> Option<&'a ContainerStatus> {
    let list = match role {
        Role::Main => &status.container_statuses,
        Role::Init | Role::Sidecar => &status.init_container_statuses,
        Role::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.iter().flatten().find(|s| s.name == name)
}

fn record(
    container: &Container,
    old: Option<&ContainerStatus>,
    survivor: Option<&Survivor>,
    now: Moment,
) -> ContainerRecord {
    let mut record = ContainerRecord {
        startup_passed: container.startup_probe.is_none(),
        ..Default::default()
    };
    record.ready_probe = container.readiness_probe.is_none();
    let unknown = ContainerStatus::default();
    let old = old.unwrap_or(&unknown);
    let state = old.state.clone().unwrap_or_default();
    let last = old.last_state.clone().unwrap_or_default().terminated;
    record.given = old.resources.clone();
    record.restarts = u32::try_from(old.restart_count).unwrap_or(0);
    record.last = last.map(|exit| exit_record(&exit, now));
    record.launched = record.last.is_some() || state.running.is_some() || state.terminated.is_some();
    if !old.image_id.is_empty() {
        // Not what the pod asks for by now: that may have changed since.
        let name = old.image.clone();
        let wasm = old
            .container_id
            .as_deref()
            .is_some_and(|id| id.starts_with("coracle-wasm://"));
        record.running_image = Some(ImageRef {
            name,
            id: old.image_id.clone(),
            wasm,
        });
    }
    if let Some(survivor) = survivor {
        // The status that was kept may be older than this run, which is one of those that count.
        if !plant::has(Plant::CountKept) {
            record.restarts = record.restarts.max(survivor.attempt);
        }
        record.launched = true;
    }
    record.run = match survivor.map(|survivor| &survivor.run) {
        Some(Outlived::Running {
            container_id,
            started,
        }) => {
            // What it had passed it has passed; probes will say if that has changed.
            let same = old.container_id.as_deref() == Some(container_id.as_str());
            record.hooked = true;
            record.startup_passed |= same && old.started == Some(true);
            record.ready_probe |= same && old.ready;
            Run::Running {
                container_id: container_id.clone(),
                started: *started,
            }
        }
        Some(Outlived::Exited(exit)) => Run::Exited(exit.clone()),
        None => match (&state.terminated, &state.running) {
            (Some(exit), _) => Run::Exited(exit_record(exit, now)),
            (None, Some(running)) => {
                Run::Exited(lost(old, running.started_at.as_ref().map(|time| time.0), now))
            }
            // In a back-off: the run before it is what the policy judges.
            (None, None) => record.last.take().map_or(Run::Waiting, Run::Exited),
        },
    };
    record
}

/// A run that ended with the agent: Wasm guests live in its process, and a
/// reboot takes everything.
fn lost(old: &ContainerStatus, started: Option<Timestamp>, now: Moment) -> ExitRecord {
    ExitRecord {
        container_id: old.container_id.clone().unwrap_or_default(),
        code: 137,
        signal: 0,
        reason: LOST.to_owned(),
        message: "The container ended with the node's agent or with the node".to_owned(),
        started,
        finished: now.wall,
        finished_mono: now.mono,
        // There is nothing left that could be forgotten.
        noted: true,
    }
}

fn exit_record(exit: &ContainerStateTerminated, now: Moment) -> ExitRecord {
    let finished = exit.finished_at.as_ref().map_or(now.wall, |time| time.0);
    let ago = Duration::try_from(now.wall.duration_since(finished)).unwrap_or_default();
    ExitRecord {
        container_id: exit.container_id.clone().unwrap_or_default(),
        code: exit.exit_code,
        signal: exit.signal.unwrap_or(0),
        reason: exit.reason.clone().unwrap_or_default(),
        message: exit.message.clone().unwrap_or_default(),
        started: exit.started_at.as_ref().map(|time| time.0),
        finished,
        finished_mono: now.mono.saturating_sub(ago),
        noted: true,
    }
}
