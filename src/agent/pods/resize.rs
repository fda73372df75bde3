//! Changing what a running container may use: what is wanted, whether the node
//! has room for it, and how it comes about. Pure.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::resources::{of, of_container, of_pod};
use super::spec::{self, Role};
use super::state::{ContainerRecord, PodState, Run};
pub use super::state::{Resize, Room};

/// Why a change has to wait: reason and message of the condition `PodResizePending`.
pub type Refusal = (&'static str, String);

/// How a change comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// While the container runs.
    Apply,
    /// By starting it again.
    Restart,
}

/// Whether the node has no room for what the pod now asks for.
pub fn refusal(pod: &Pod, room: &Room) -> Option<Refusal> {
    let asked = of_pod(pod);
    let list = [
        (
            "cpu",
            asked.cpu_request_millis,
            room.cpu_millis,
            room.cpu_millis_all,
        ),
        (
            "memory",
            asked.memory_request_bytes,
            room.memory_bytes,
            room.memory_bytes_all,
        ),
    ];
    list.into_iter().find_map(|(name, asked, free, all)| {
        let asked = asked.unwrap_or(0);
        if asked > all {
            let text = "Node didn't have enough capacity";
            let text = format!("{text}: {name}, requested: {asked}, capacity: {all}");
            return Some(("Infeasible", text));
        }
        (asked > free).then(|| {
            let (text, used) = ("Node didn't have enough resource", all.saturating_sub(free));
            let text = format!("{text}: {name}, requested: {asked}, used: {used}, capacity: {all}");
            ("Deferred", text)
        })
    })
}

/// Whether a running container has other resources than its pod says by now, and what to do about it.
pub fn step(container: &Container, record: &ContainerRecord) -> Option<Step> {
    let given = record.given.as_ref()?;
    if !matches!(record.run, Run::Running { .. }) {
        return None;
    }
    // The common case, without reading a single quantity.
    if container.resources.as_ref() == Some(given) {
        return None;
    }
    let (now, wanted) = (of(Some(given)), of_container(container));
    let cpu = (now.cpu_request_millis, now.cpu_limit_millis)
        != (wanted.cpu_request_millis, wanted.cpu_limit_millis);
    let memory = (now.memory_request_bytes, now.memory_limit_bytes)
        != (wanted.memory_request_bytes, wanted.memory_limit_bytes);
    if !cpu && !memory {
        return None;
    }
    let restarts = |resource: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
    };
    let restart = cpu && restarts("cpu") || memory && restarts("memory");
    Some(if restart { Step::Restart } else { Step::Apply })
}

/// Whether a container that runs has to change.
pub fn pending(pod: &Pod, state: &PodState) -> bool {
    spec::containers(pod).any(|(role, c)| role != Role::Init && step(c, state.container(&c.name)).is_some())
}

/// Why a change of the pod waits, while one does.
pub fn waits(pod: &Pod, state: &PodState) -> Option<Refusal> {
    if !pending(pod, state) {
        return None;
    }
    refusal(pod, state.room.as_ref()?)
}

/// What a container's status shows as given to it.
pub fn shown(record: &ContainerRecord) -> Option<ResourceRequirements> {
    record.given.clone().filter(|_| record.active())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(resources: Value) -> Container {
        serde_json::from_value(json!({"name": "c", "resources": resources,
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"},
                             {"resourceName": "cpu", "restartPolicy": "NotRequired"}]}))
        .unwrap()
    }

    fn running(resources: Value) -> ContainerRecord {
        ContainerRecord {
            given: container(resources).resources,
            run: Run::Running {
                container_id: "fake://c".to_owned(),
                started: jiff::Timestamp::UNIX_EPOCH,
            },
            ..ContainerRecord::default()
        }
    }

    #[test]
    fn the_policy_says_how() {
        let record = running(json!({"requests": {"cpu": "100m", "memory": "10Mi"}}));
        let to = |cpu: &str, memory: &str| {
            step(
                &container(json!({"requests": {"cpu": cpu, "memory": memory}})),
                &record,
            )
        };
        assert_eq!(to("0.1", "10240Ki"), None);
        assert_eq!(to("200m", "10Mi"), Some(Step::Apply));
        assert_eq!(to("200m", "20Mi"), Some(Step::Restart));
        let ended = ContainerRecord {
            run: Run::Waiting,
            ..record
        };
        assert_eq!(step(&container(json!({})), &ended), None);
    }

    #[test]
    fn there_must_be_room() {
        let room = Room {
            cpu_millis: 500,
            memory_bytes: 1 << 30,
            cpu_millis_all: 2000,
            memory_bytes_all: 2 << 30,
        };
        let asked = |cpu: &str| {
            let container = container(json!({"requests": {"cpu": cpu}}));
            let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap();
            refusal(&pod, &room)
        };
        assert_eq!(asked("500m"), None);
        let (reason, text) = asked("600m").unwrap();
        assert_eq!(
            (reason, text.as_str()),
            (
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
            )
        );
        let (reason, text) = asked("3").unwrap();
        assert_eq!(
            (reason, text.as_str()),
            (
                "Infeasible",
                "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
            )
        );
    }
}
