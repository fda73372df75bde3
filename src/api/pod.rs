//! What scheduler, agent and controllers all need to know about a pod:
//! what it asks for, where it may run, how it is doing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodCondition, PodSpec,
    ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as TypedQuantity;

use crate::quantity::Quantity;
use crate::selector::Labels;

/// Amounts by resource name, such as `cpu` and `memory`.
pub type Amounts = BTreeMap<String, Quantity>;

/// The pod's phase; `Pending` when it has none yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .filter(|p| !p.is_empty())
        .unwrap_or("Pending")
}

/// Whether all its containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Its condition of that type, such as `Ready`.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// Whether it may serve: its condition `Ready` is `True`.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether an init container is a sidecar: it restarts on its own and runs beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What the pod asks for, as the scheduler counts it.
pub fn requests(spec: &PodSpec) -> Amounts {
    total(spec, |r| r.requests.as_ref())
}

/// What the pod may use at most; resources that a container leaves unlimited count nothing.
pub fn limits(spec: &PodSpec) -> Amounts {
    total(spec, |r| r.limits.as_ref())
}

/// Containers and sidecars add up; an init container runs before them, together with the sidecars that
/// come before it, so the larger of the two needs counts. The pod's own amounts, if any, go first.
fn total<F>(spec: &PodSpec, pick: F) -> Amounts
where
    F: Fn(&ResourceRequirements) -> Option<&BTreeMap<String, TypedQuantity>>,
{
    let amounts = |c: &Container| c.resources.as_ref().and_then(&pick).map(read).unwrap_or_default();
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &amounts(container));
    }
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut need = amounts(container);
        if is_sidecar(container) {
            add(&mut sum, &need);
            add(&mut sidecars, &need);
            need = sidecars.clone();
        } else {
            add(&mut need, &sidecars);
        }
        raise(&mut highest, &need);
    }
    raise(&mut sum, &highest);
    if let Some(own) = spec.resources.as_ref().and_then(&pick) {
        sum.extend(read(own));
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut sum, &read(overhead));
    }
    sum
}

/// Amounts of a typed map; texts that are no quantities count nothing.
pub fn read(map: &BTreeMap<String, TypedQuantity>) -> Amounts {
    map.iter()
        .filter_map(|(k, q)| Some((k.clone(), Quantity::try_from(q).ok()?)))
        .collect()
}

/// Adds amounts to a sum.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        *sum.entry(name.clone()).or_default() += *quantity;
    }
}

fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        let have = sum.entry(name.clone()).or_default();
        *have = (*have).max(*quantity);
    }
}

/// The pod's quality-of-service class from its spec: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let own = spec
        .resources
        .as_ref()
        .filter(|r| r.requests.is_some() || r.limits.is_some());
    let parts: Vec<(Amounts, Amounts)> = match own {
        Some(resources) => vec![both(Some(resources))],
        None => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|c| both(c.resources.as_ref()))
            .collect(),
    };
    qos_of(&parts)
}

fn both(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    let read = |map: Option<&BTreeMap<_, _>>| map.map(read).unwrap_or_default();
    resources
        .map(|r| (read(r.requests.as_ref()), read(r.limits.as_ref())))
        .unwrap_or_default()
}

/// The class of a pod whose containers have these requests and limits.
pub fn qos_of(containers: &[(Amounts, Amounts)]) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let amount = |map: &Amounts, name: &str| map.get(name).copied().filter(|q| !q.is_zero());
    let none = |map: &Amounts| COUNTED.iter().all(|name| amount(map, name).is_none());
    if containers
        .iter()
        .all(|(requests, limits)| none(requests) && none(limits))
    {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|(requests, limits)| {
        COUNTED.iter().all(|name| {
            let limit = amount(limits, name);
            limit.is_some() && amount(requests, name).is_none_or(|request| Some(request) == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

/// Whether a toleration puts up with a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |s: &Option<String>| s.as_deref().unwrap_or("").is_empty();
    if !empty(&toleration.effect) && toleration.effect.as_deref() != Some(&taint.effect) {
        return false;
    }
    if !empty(&toleration.key) && toleration.key.as_deref() != Some(&taint.key) {
        return false;
    }
    let (want, have) = (
        toleration.value.as_deref().unwrap_or(""),
        taint.value.as_deref().unwrap_or(""),
    );
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => !empty(&toleration.key) && want == have,
        "Gt" => numbers(have, want).is_some_and(|(have, want)| have > want),
        "Lt" => numbers(have, want).is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

fn numbers(a: &str, b: &str) -> Option<(i64, i64)> {
    Some((a.parse().ok()?, b.parse().ok()?))
}

/// The first taint with one of the given effects that the pod does not put up with.
pub fn untolerated<'a>(spec: &PodSpec, taints: &'a [Taint], effects: &[&str]) -> Option<&'a Taint> {
    let tolerations = spec.tolerations.as_deref().unwrap_or(&[]);
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// Whether `nodeSelector` and the required node affinity allow that node.
pub fn fits_node(spec: &PodSpec, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.value_of(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_fits(term, node)))
}

/// The sum of the weights of the preferred node affinity terms that the node meets.
pub fn node_preference(spec: &PodSpec, node: &Node) -> i64 {
    let preferred = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred
        .into_iter()
        .flatten()
        .filter(|p| is_blank(&p.preference) || term_fits(&p.preference, node))
        .map(|p| i64::from(p.weight))
        .sum()
}

fn is_blank(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.as_ref().is_none_or(Vec::is_empty)
        && term.match_fields.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a node meets a term; a term without conditions is met by none.
pub(crate) fn term_fits(term: &NodeSelectorTerm, node: &Node) -> bool {
    let fields = vec![("metadata.name", node.metadata.name.clone().unwrap_or_default())];
    !is_blank(term)
        && term
            .match_expressions
            .iter()
            .flatten()
            .all(|r| node_requirement(r, &node.metadata.labels))
        && term
            .match_fields
            .iter()
            .flatten()
            .all(|r| node_requirement(r, &fields))
}

fn node_requirement(requirement: &NodeSelectorRequirement, labels: &impl Labels) -> bool {
    let value = labels.value_of(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let among = value.is_some_and(|v| values.iter().any(|w| w == v));
    let compared = || numbers(value?, values.first()?);
    match requirement.operator.as_str() {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(have, want)| have > want),
        "Lt" => compared().is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port number.
    pub port: i32,
    /// Port of the pod that it leads to.
    pub container_port: i32,
}

impl HostPort {
    /// Whether two cannot be had at once.
    pub fn collides(&self, other: &HostPort) -> bool {
        let all = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || all(&self.ip) || all(&other.ip))
    }
}

/// The ports a pod takes on its node, those of its sidecars included.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|n| *n > 0)?;
            let ip = p
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            Some(HostPort {
                ip,
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port,
                container_port: p.container_port,
            })
        })
        .collect()
}

/// The number of a port named by `targetPort` or a probe: a number as text, or a container port's name.
pub fn named_port(spec: &PodSpec, name: &str, protocol: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

#[cfg(test)]
mod tests;
