//! Labels of namespaces: they must make sense, and who makes them stricter is told which pods would not have come in.

use std::collections::{BTreeMap, HashSet};

use api::object;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::super::{Operation, Review, World};
use super::PodSecurity;
use super::checks::{self, Subject, violations};
use super::policy::{Level, Policy, Standard};

/// Most pods that are looked at when labels change.
const PODS_MAX: usize = 3000;

impl PodSecurity {
    pub(super) fn namespace(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let Some(namespace) = review.object.as_deref() else {
            return Ok(());
        };
        let read = |object| Policy::of(|key| object::label(object, key), self.0.defaults);
        let (new, wrong) = read(namespace);
        let name = review.object_name();
        let refusal = || Err(Status::invalid("", "Namespace", name, &wrong));
        let Some(old) = review.old.filter(|_| review.operation == Operation::Update) else {
            if !wrong.is_empty() {
                return refusal();
            }
            self.warn_of_exemption(review, namespace, &new);
            return Ok(());
        };
        let (old, old_wrong) = read(old);
        if !wrong.is_empty() && wrong != old_wrong {
            return refusal();
        }
        if !is_stricter(new.enforce, old.enforce) {
            return Ok(());
        }
        if self.0.namespaces.iter().any(|exempt| exempt == name) {
            self.warn_of_exemption(review, namespace, &new);
            return Ok(());
        }
        let pods = world.all("", "pods", name);
        let looked_at = pods
            .into_iter()
            .filter(|pod| !self.is_exempt(value::get(pod, "spec")));
        for warning in warnings(name, looked_at.collect(), new.enforce) {
            review.notes.warn(warning);
        }
        Ok(())
    }

    fn warn_of_exemption(&self, review: &Review<'_>, namespace: &Value, policy: &Policy) {
        let name = review.object_name();
        let exempt = self.0.namespaces.iter().any(|exempt| exempt == name);
        if !exempt || policy.is_idle() || policy.equals(&self.0.defaults) {
            return;
        }
        let says = |mode: &str| {
            let key = format!("{}{mode}", super::NOTE);
            object::label(namespace, &key).or_else(|| object::label(namespace, &format!("{key}-version")))
        };
        let modes = [
            ("enforce", policy.enforce),
            ("audit", policy.audit),
            ("warn", policy.warn),
        ];
        let told: Vec<String> = modes
            .iter()
            .filter(|(mode, standard)| standard.level != Level::Privileged && says(mode).is_some())
            .map(|(mode, standard)| format!("{mode}={standard}"))
            .collect();
        review.notes.warn(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            told.join(", ")
        ));
    }
}

/// Whether pods that were allowed before may not be now.
fn is_stricter(new: Standard, old: Standard) -> bool {
    let relaxed = new.version == old.version && new.level <= old.level;
    new != old && new.level != Level::Privileged && !relaxed
}

/// What to say of the pods that are there when a namespace begins to enforce a standard. Pure.
fn warnings(namespace: &str, pods: Vec<Value>, standard: Standard) -> Vec<String> {
    let total = pods.len();
    let mut told = Vec::new();
    let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in in_turn(pods).iter().take(PODS_MAX) {
        let subject = Subject {
            metadata: value::get(pod, "metadata"),
            spec: value::get(pod, "spec"),
        };
        let broken = violations(standard, &subject);
        if broken.is_empty() {
            continue;
        }
        let name = object::name(pod);
        let (first, count) = by_reason
            .entry(checks::reasons(&broken))
            .or_insert_with(|| (name.to_owned(), 0));
        if name < first.as_str() {
            name.clone_into(first);
        }
        *count += 1;
    }
    if total > PODS_MAX {
        told.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        told.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut pods: Vec<String> = by_reason
        .into_iter()
        .map(|(reasons, who)| one(&reasons, &who))
        .collect();
    pods.sort();
    told.extend(pods);
    told
}

fn one(reasons: &str, (name, count): &(String, usize)) -> String {
    match count {
        1 => format!("{name}: {reasons}"),
        2 => format!("{name} (and 1 other pod): {reasons}"),
        more => format!("{name} (and {} other pods): {reasons}", more - 1),
    }
}

/// One pod of each maker first: the others are like it.
fn in_turn(pods: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let is_first = |pod: &Value| match object::controller_of(pod) {
        Some(owner) => seen.insert(value::text(owner, "uid").to_owned()),
        None => true,
    };
    let (mut first, others): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(is_first);
    first.extend(others);
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_with_the_same_faults_are_told_of_together() {
        let standard = Standard {
            level: Level::Baseline,
            ..Standard::default()
        };
        let pod = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let host = || json!({"hostNetwork": true, "containers": []});
        let pods = vec![
            pod("c", host()),
            pod("b", host()),
            pod("d", host()),
            pod(
                "e",
                json!({"hostPID": true, "volumes": [{"name": "v", "hostPath": {}}]}),
            ),
            pod("fine", json!({})),
        ];
        assert_eq!(
            warnings("shop", pods, standard),
            [
                "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "b (and 2 other pods): host namespaces",
                "e: host namespaces, hostPath volumes",
            ]
        );
        assert!(warnings("shop", Vec::new(), standard).is_empty());
    }

    #[test]
    fn only_stricter_rules_are_worth_a_look() {
        let of = |level, version| Standard { level, version };
        let newest = super::super::Version::Latest;
        let old = super::super::Version::Minor(24);
        let baseline = of(Level::Baseline, newest);
        assert!(is_stricter(baseline, of(Level::Privileged, newest)));
        assert!(is_stricter(baseline, of(Level::Restricted, old)));
        assert!(!is_stricter(baseline, of(Level::Restricted, newest)));
        assert!(!is_stricter(baseline, baseline));
        assert!(!is_stricter(of(Level::Privileged, newest), baseline));
    }
}
