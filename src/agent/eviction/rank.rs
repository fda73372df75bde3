//! Which pod goes first, and what is said about it: the kubelet's order and words. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::signals::{Met, Signal, binary};
use super::usage::{ContainerUse, PodUse};
use crate::pods::spec;
use crate::static_pods;

/// From this priority on, pods are never evicted for want of resources.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Whether a pod stays, come what may.
pub fn is_critical(pod: &Pod) -> bool {
    // What a file of this machine asks for is not the API's to have elsewhere.
    let from_file = static_pods::is_static(pod) || static_pods::is_mirror(pod);
    from_file || spec::spec(pod).priority.unwrap_or(0) >= CRITICAL_PRIORITY
}

/// How much a container uses of what a signal counts.
fn used(signal: Signal, of: &ContainerUse) -> u64 {
    match signal {
        Signal::Memory => of.memory_bytes,
        Signal::NodefsBytes | Signal::ImagefsBytes => of.disk.bytes,
        Signal::NodefsInodes | Signal::ImagefsInodes => of.disk.inodes,
        Signal::Pids => of.pids,
    }
}

fn used_by_pod(signal: Signal, of: &PodUse) -> u64 {
    let volumes = match signal {
        Signal::NodefsBytes | Signal::ImagefsBytes => of.disk_volumes.bytes,
        Signal::NodefsInodes | Signal::ImagefsInodes => of.disk_volumes.inodes,
        Signal::Memory | Signal::Pids => 0,
    };
    volumes + of.containers.values().map(|c| used(signal, c)).sum::<u64>()
}

/// Only memory and disk can be requested.
fn requested(signal: Signal, container: &Container) -> u64 {
    if !matches!(
        signal,
        Signal::Memory | Signal::NodefsBytes | Signal::ImagefsBytes
    ) {
        return 0;
    }
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let amount = requests.and_then(|r| r.get(signal.resource()));
    let amount = amount.and_then(|q| q.0.parse::<api::quantity::Quantity>().ok());
    amount.and_then(|q| u64::try_from(q.value()).ok()).unwrap_or(0)
}

fn requested_by_pod(signal: Signal, pod: &Pod) -> u64 {
    let long = spec::containers(pod).filter(|(role, _)| *role != spec::Role::Init);
    long.map(|(_, container)| requested(signal, container)).sum()
}

/// Puts pods in the order in which they are evicted: those that use more than
/// they asked for, the less important, those that use the most beyond it.
pub fn rank(signal: Signal, pods: &mut [(std::sync::Arc<Pod>, PodUse)]) {
    pods.sort_by_key(|(pod, use_of)| {
        let (used, asked) = (used_by_pod(signal, use_of), requested_by_pod(signal, pod));
        let beyond = i128::from(used) - i128::from(asked);
        (
            used <= asked,
            spec::spec(pod).priority.unwrap_or(0),
            Reverse(beyond),
        )
    });
}

/// What the pod's status and event say: what ran short, by how much, and which
/// containers used more of it than they had asked for.
pub fn message(met: &Met, pod: &Pod, use_of: &PodUse) -> String {
    let signal = met.signal;
    let resource = signal.resource();
    let amount = |n: u64| match signal {
        Signal::Memory | Signal::NodefsBytes | Signal::ImagefsBytes => binary(n),
        _ => n.to_string(),
    };
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        amount(met.floor),
        available(signal, met.available),
    );
    for (_, container) in spec::containers(pod) {
        let Some(use_of) = use_of.containers.get(&container.name) else {
            continue;
        };
        let (used, asked) = (used(signal, use_of), requested(signal, container));
        if used > asked {
            text.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                available(signal, used),
                amount(asked)
            ));
        }
    }
    text
}

/// What is measured is shown in Ki, as the kubelet does.
fn available(signal: Signal, amount: u64) -> String {
    match signal {
        Signal::Memory | Signal::NodefsBytes | Signal::ImagefsBytes => format!("{}Ki", amount / 1024),
        _ => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, request: &str, priority: i32) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"memory": request}}},
        ]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn using(mebibytes: u64) -> PodUse {
        let used = ContainerUse {
            memory_bytes: mebibytes << 20,
            ..ContainerUse::default()
        };
        PodUse {
            containers: [("c".to_owned(), used)].into(),
            ..PodUse::default()
        }
    }

    #[test]
    fn greedy_unimportant_and_large_pods_go_first() {
        let mut pods = vec![
            (pod("modest", "100Mi", 0), using(90)),
            (pod("important", "10Mi", 1000), using(500)),
            (pod("little-beyond", "10Mi", 0), using(20)),
            (pod("much-beyond", "0", 0), using(50)),
        ];
        rank(Signal::Memory, &mut pods);
        let names: Vec<&str> = pods.iter().map(|(pod, _)| spec::name(pod)).collect();
        assert_eq!(names, ["much-beyond", "little-beyond", "important", "modest"]);
    }

    #[test]
    fn the_message_is_the_kubelets() {
        let met = Met {
            signal: Signal::Memory,
            floor: 100 << 20,
            available: 99 << 20,
        };
        assert_eq!(
            message(&met, &pod("p", "10Mi", 0), &using(20)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 101376Ki. \
             Container c was using 20480Ki, request is 10Mi, has larger consumption of memory. "
        );
        let modest = message(&met, &pod("p", "30Mi", 0), &using(20));
        assert!(!modest.contains("Container"), "{modest}");
    }

    #[test]
    fn critical_pods_stay() {
        assert!(!is_critical(&pod("p", "0", 1_999_999_999)));
        assert!(is_critical(&pod("p", "0", 2_000_000_000)));
    }
}
