//! The pod conditions that the node owns.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::initialized;
use super::resize::{self, Resize};
use super::spec::{self, Role};
use super::state::{EVICTED, Part, PodState, TERMINATED};
use crate::moment::Moment;

/// `PodReadyToStartContainers`, `Initialized`, `Ready`, `ContainersReady` and
/// `PodScheduled`, keeping the transition times of those that did not change,
/// and `DisruptionTarget` once the node has given the pod up.
/// `status` has phase and container statuses filled in.
pub fn compute(
    pod: &Pod,
    state: &PodState,
    status: &PodStatus,
    old: &[PodCondition],
    now: Moment,
) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(pod, status, phase);
    let list = [
        ready_to_start(state),
        initialized_condition(pod, state, phase),
        ready(pod, &containers_ready),
        containers_ready,
        Finding::new("PodScheduled", true),
    ];
    list.into_iter()
        .chain(disruption(state))
        .chain(resize_pending(pod, state))
        .chain(resize_under_way(pod, state))
        .map(|finding| finding.condition(pod, old, now))
        .collect()
}

struct Finding {
    kind: &'static str,
    met: bool,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn new(kind: &'static str, met: bool) -> Finding {
        Finding {
            kind,
            met,
            reason: "",
            message: String::new(),
        }
    }

    fn because(kind: &'static str, met: bool, reason: &'static str, message: impl Into<String>) -> Finding {
        Finding {
            kind,
            met,
            reason,
            message: message.into(),
        }
    }

    fn condition(self, pod: &Pod, old: &[PodCondition], now: Moment) -> PodCondition {
        let status = if self.met { "True" } else { "False" };
        let old = old.iter().find(|c| c.type_ == self.kind);
        let since = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone())
            .unwrap_or(Time(now.wall));
        PodCondition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: (!self.reason.is_empty()).then(|| self.reason.to_owned()),
            message: (!self.message.is_empty()).then_some(self.message),
            last_transition_time: Some(since),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        }
    }
}

fn ready_to_start(state: &PodState) -> Finding {
    Finding::new("PodReadyToStartContainers", state.sandbox == Part::Ready)
}

/// That the node itself ended the pod: what has to be done again and not what failed.
fn disruption(state: &PodState) -> Option<Finding> {
    let by_node = |reason: &str| matches!(reason, EVICTED | TERMINATED);
    let failure = state.failure.as_ref().filter(|f| by_node(&f.reason))?;
    let message = failure.message.clone();
    Some(Finding::because(
        "DisruptionTarget",
        true,
        "TerminationByKubelet",
        message,
    ))
}

/// The conditions that come and go with a change of what containers may use.
pub const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

fn resize_pending(pod: &Pod, state: &PodState) -> Option<Finding> {
    let (reason, message) = resize::waits(pod, state)?;
    Some(Finding::because(PASSING[0], true, reason, message))
}

fn resize_under_way(pod: &Pod, state: &PodState) -> Option<Finding> {
    if !resize::pending(pod, state) || resize::waits(pod, state).is_some() {
        return None;
    }
    let error = state.containers.values().find_map(|record| match &record.resize {
        Resize::Failed { message, .. } => Some(message.clone()),
        _ => None,
    });
    Some(match error {
        Some(message) => Finding::because(PASSING[1], true, "Error", message),
        None => Finding::new(PASSING[1], true),
    })
}

fn initialized_condition(pod: &Pod, state: &PodState, phase: &str) -> Finding {
    const KIND: &str = "Initialized";
    if phase == "Succeeded" {
        return Finding::because(KIND, true, "PodCompleted", "");
    }
    if initialized(pod, state) {
        return Finding::new(KIND, true);
    }
    let incomplete = spec::init_containers(pod).filter(|(role, c)| {
        let record = state.container(&c.name);
        match role {
            Role::Sidecar => !record.started(),
            _ => record.exited().is_none_or(|exit| exit.code != 0),
        }
    });
    let names: Vec<&str> = incomplete.map(|(_, c)| c.name.as_str()).collect();
    let message = format!("containers with incomplete status: [{}]", names.join(" "));
    Finding::because(KIND, false, "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, status: &PodStatus, phase: &str) -> Finding {
    const KIND: &str = "ContainersReady";
    match phase {
        "Succeeded" => return Finding::because(KIND, false, "PodCompleted", ""),
        "Failed" => return Finding::because(KIND, false, "PodFailed", ""),
        _ => {}
    }
    let unready = |list: &Option<Vec<ContainerStatus>>| -> Vec<String> {
        list.iter()
            .flatten()
            .filter(|s| !s.ready)
            .map(|s| s.name.clone())
            .collect()
    };
    // Sidecars count like main containers; init containers are `Initialized`'s business.
    let sidecars = spec::init_containers(pod).filter(|(role, _)| *role == Role::Sidecar);
    let sidecars: Vec<&str> = sidecars.map(|(_, c)| c.name.as_str()).collect();
    let mut names = unready(&status.init_container_statuses);
    names.retain(|name| sidecars.contains(&name.as_str()));
    names.extend(unready(&status.container_statuses));
    if names.is_empty() {
        return Finding::new(KIND, true);
    }
    let message = format!("containers with unready status: [{}]", names.join(" "));
    Finding::because(KIND, false, "ContainersNotReady", message)
}

fn ready(pod: &Pod, containers: &Finding) -> Finding {
    const KIND: &str = "Ready";
    if !containers.met {
        return Finding::because(KIND, false, containers.reason, containers.message.clone());
    }
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let gates = spec::spec(pod).readiness_gates.iter().flatten();
    let unmet: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match conditions.iter().find(|c| &c.type_ == kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if unmet.is_empty() {
        return Finding::new(KIND, true);
    }
    Finding::because(KIND, false, "ReadinessGatesNotReady", unmet.join(", "))
}
