//! What pods count as, and what they must say where it is counted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::object;
use api::pod::{self, Amounts};
use api::quantity::{Format, Quantity};
use api::value;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

/// Resources every node has; each is counted as it is, as `requests.` and as `limits.`.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Counted only if every container says it: Kubernetes' first quotas asked for that, and so it stayed.
const MUST_SAY: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// Whether a name of a quota counts something of pods.
pub fn is_counted_by(name: &str) -> bool {
    let bare = |name: &str| COMPUTE.contains(&name);
    if name == "pods" || bare(name) || name.starts_with("hugepages-") {
        return true;
    }
    if let Some(limit) = name.strip_prefix("limits.") {
        return bare(limit);
    }
    let request = name.strip_prefix("requests.");
    request.is_some_and(|name| bare(name) || name.starts_with("hugepages-") || is_extended(name))
}

/// A resource that somebody outside Kubernetes gives to nodes.
fn is_extended(name: &str) -> bool {
    let domain = name.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// What a pod uses; nothing once it has ended, or should have.
pub fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if matches!(value::text(pod, "status.phase"), "Succeeded" | "Failed") || is_overdue(pod, now) {
        return Amounts::new();
    }
    // What was stored is of its type; what is not, is refused before it gets here.
    let spec = serde_json::from_value::<PodSpec>(value::get(pod, "spec").clone()).unwrap_or_default();
    let mut used = counted(&pod::requests(&spec), &pod::limits(&spec));
    used.insert("pods".to_owned(), Quantity::new(1, Format::DecimalSi));
    used
}

/// Whether it should have been gone already: whoever counts on a lost node waits for nobody.
fn is_overdue(pod: &Value, now: Timestamp) -> bool {
    let deleted = object::deletion_timestamp(pod).and_then(|at| at.parse::<Timestamp>().ok());
    let grace = object::get_i64(pod, &["metadata", "deletionGracePeriodSeconds"]);
    let (Some(deleted), Some(grace)) = (deleted, grace) else {
        return false;
    };
    let end = deleted.checked_add(SignedDuration::from_secs(grace));
    end.is_ok_and(|end| now > end)
}

fn counted(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if plain {
            used.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    let limited = limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    used.extend(limited.map(|(name, amount)| (format!("limits.{name}"), *amount)));
    used
}

/// Refuses a pod whose containers do not say what a quota counts by `names`.
///
/// # Errors
/// What which of them must say.
pub fn check(pod: &Value, names: &[&str]) -> Result<(), String> {
    // Amounts for the pod as a whole stand for all containers.
    if ["requests", "limits"].iter().any(|key| {
        let own = value::get(value::get(pod, "spec.resources"), key);
        COMPUTE.iter().take(2).any(|name| own.get(name).is_some())
    }) {
        return Ok(());
    }
    let required: BTreeSet<&str> = names
        .iter()
        .copied()
        .filter(|name| MUST_SAY.contains(name))
        .collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["spec.containers", "spec.initContainers"] {
        for container in value::list(pod, list) {
            let silent = required.iter().filter(|name| !says(container, name));
            for name in silent {
                let who = missing.entry(name).or_default();
                who.insert(value::text(container, "name"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts = missing.into_iter().map(|(name, who)| {
        let who: Vec<&str> = who.into_iter().collect();
        format!("{name} for: {}", who.join(","))
    });
    Err(format!("must specify {}", texts.collect::<Vec<_>>().join("; ")))
}

fn says(container: &Value, name: &str) -> bool {
    let (key, name) = name.split_once('.').unwrap_or(("requests", name));
    value::get(value::get(container, "resources"), key)
        .get(name)
        .is_some()
}
