//! What a pod's containers may use, from its spec. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use oci::Resources;

use super::spec;
use crate::huge_pages;

fn amount(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<Quantity> {
    list?
        .get(name)?
        .0
        .parse::<Quantity>()
        .ok()
        .filter(|q| !q.is_zero())
}

/// A container's requests and limits; what is limited and not requested requests its limit.
pub fn of_container(container: &Container) -> Resources {
    of(container.resources.as_ref())
}

/// The same of a list of requests and limits.
pub fn of(resources: Option<&ResourceRequirements>) -> Resources {
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let positive = |n: i64| u64::try_from(n).ok();
    let millis = |list, name| amount(list, name).and_then(|q| positive(q.milli()));
    let bytes = |list, name| amount(list, name).and_then(|q| positive(q.value()));
    Resources {
        cpu_request_millis: millis(requests, "cpu").or_else(|| millis(limits, "cpu")),
        cpu_limit_millis: millis(limits, "cpu"),
        memory_request_bytes: bytes(requests, "memory").or_else(|| bytes(limits, "memory")),
        memory_limit_bytes: bytes(limits, "memory"),
        huge_pages: huge_pages::limits(resources),
        cpus: None,
        pids_limit: None,
    }
}

/// What the pod says of itself as a whole; for the rest the sum over the containers that run together: a limit only where each has one.
pub fn of_pod(pod: &Pod) -> Resources {
    let running = spec::containers(pod).filter(|(role, _)| *role != spec::Role::Init);
    let all: Vec<Resources> = running.map(|(_, c)| of_container(c)).collect();
    let sum = |of: fn(&Resources) -> Option<u64>| all.iter().filter_map(of).reduce(u64::saturating_add);
    let limit = |of: fn(&Resources) -> Option<u64>| {
        all.iter()
            .map(of)
            .try_fold(0, |a: u64, b| Some(a.saturating_add(b?)))
    };
    let has_init = spec::init_containers(pod).any(|(role, _)| role == spec::Role::Init);
    // An init container may need more than the others together; it has its own limits.
    let limit = |of| if has_init { None } else { limit(of) };
    let whole = of(spec::spec(pod).resources.as_ref());
    Resources {
        cpu_request_millis: whole.cpu_request_millis.or_else(|| sum(|r| r.cpu_request_millis)),
        memory_request_bytes: whole
            .memory_request_bytes
            .or_else(|| sum(|r| r.memory_request_bytes)),
        cpu_limit_millis: whole.cpu_limit_millis.or_else(|| limit(|r| r.cpu_limit_millis)),
        memory_limit_bytes: whole
            .memory_limit_bytes
            .or_else(|| limit(|r| r.memory_limit_bytes)),
        // Each container has its own.
        huge_pages: BTreeMap::new(),
        cpus: None,
        pids_limit: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_limited_where_every_container_is() {
        let limited = json!({"name": "a", "resources": {"limits": {"memory": "1Mi"}}});
        let pod = |containers: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
        };
        let both = of_pod(&pod(json!([limited, limited])));
        assert_eq!(both.memory_limit_bytes, Some(2 << 20));
        let one = of_pod(&pod(json!([limited, {"name": "b"}])));
        assert_eq!(
            (one.memory_limit_bytes, one.memory_request_bytes),
            (None, Some(1 << 20))
        );
    }
}
