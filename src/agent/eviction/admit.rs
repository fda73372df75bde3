//! Which new pods a node under pressure takes in. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::rank::is_critical;
use super::signals::Pressure;
use crate::pods::spec;
use crate::pods::status::qos_class;

/// Why a pod that has just come is not run (the kubelet's rule): short of
/// memory, the node still takes what has asked for some; short of anything
/// else, only what is critical.
pub fn refusal(pod: &Pod, pressure: Pressure) -> Option<String> {
    let conditions = pressure.conditions();
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    let only_memory = !pressure.disk && !pressure.pids;
    if only_memory && (qos_class(pod) != "BestEffort" || tolerates_memory_pressure(pod)) {
        return None;
    }
    Some(format!("The node had condition: [{}]. ", conditions.join(" ")))
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    const TAINT: &str = "node.kubernetes.io/memory-pressure";
    let mut list = spec::spec(pod).tolerations.iter().flatten();
    list.any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (key == TAINT || key.is_empty() && exists)
            && (exists || toleration.value.as_deref().unwrap_or_default().is_empty())
            && matches!(effect, "" | "NoSchedule")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn pressure_keeps_pods_out() {
        let best_effort = pod(json!({"containers": [{"name": "c"}]}));
        let asking =
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}));
        let tolerant = pod(json!({"containers": [{"name": "c"}],
            "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]}));
        let critical = pod(json!({"priority": 2_000_001_000, "containers": [{"name": "c"}]}));
        let memory = Pressure {
            memory: true,
            ..Pressure::default()
        };
        let disk = Pressure { disk: true, ..memory };
        assert_eq!(refusal(&best_effort, Pressure::default()), None);
        assert_eq!(
            refusal(&best_effort, memory).unwrap(),
            "The node had condition: [MemoryPressure]. "
        );
        assert_eq!(refusal(&asking, memory), None);
        assert_eq!(refusal(&tolerant, memory), None);
        assert_eq!(
            refusal(&asking, disk).unwrap(),
            "The node had condition: [MemoryPressure DiskPressure]. "
        );
        assert_eq!(refusal(&critical, disk), None);
    }
}
