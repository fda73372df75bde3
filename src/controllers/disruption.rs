//! PodDisruptionBudgets: how many of the pods they select may be taken away at this moment.
//!
//! Evictions spend what stands in the status (the API server does, in one
//! commit with the deletion); this controller counts anew whenever pods change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going, selects};
use crate::{Reconciler, pods};
use expected::{expectation, number};

mod expected;

/// How long an evicted pod may take to be seen going before it counts as present again.
const DELETION_MAX: Duration = Duration::from_secs(120);

/// Counts what each budget allows; keyed by budget.
pub struct Budgets;

/// What a budget's status is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Pods that there should be.
    expected: i32,
    /// Pods that must stay healthy.
    desired: i32,
    /// Pods that are.
    healthy: i32,
}

impl Count {
    fn allowed(self) -> i32 {
        if self.expected <= 0 {
            return 0;
        }
        (self.healthy - self.desired).max(0)
    }
}

impl Reconciler for Budgets {
    const NAME: &'static str = "disruption";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(budget) = view.budgets.get(&key.namespace, &key.name) else {
            return plan;
        };
        if is_going(budget.as_ref()) {
            return plan;
        }
        let all = view.pods.list();
        let mine: Vec<&Arc<Pod>> = all.iter().filter(|pod| covers(&budget, pod)).collect();
        if mine.is_empty() {
            let text = "No matching pods found".to_owned();
            plan.tell(budget.as_ref(), EventType::Normal, "NoPods", text);
        }
        let evicted = evicted(&budget, &mine, &mut plan, now);
        let healthy = mine.iter().filter(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            pods::is_ready(pod) && !is_going(pod.as_ref()) && !evicted.contains_key(name)
        });
        let healthy = number(healthy.count());
        let status = match expectation(&budget, &mine, view, &mut plan, now) {
            // The answer is on its way; nothing is known that was not known before.
            Ok(None) => return plan,
            Ok(Some((expected, desired))) => {
                let count = Count {
                    expected,
                    desired,
                    healthy,
                };
                status(&budget, count, evicted, now)
            }
            Err(why) => failed(&budget, why, &mut plan, now),
        };
        if budget.status.as_ref() != Some(&status) {
            let mut new = budget.as_ref().clone();
            new.status = Some(status);
            plan.writes.insert(0, Write::update_status(&new));
        }
        plan
    }
}

/// Whether the budget is about that pod. A budget without a selector is about none.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    budget.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|selector| selects(selector, pod.metadata.labels.as_ref()))
}

/// The pods that were evicted and are not seen going yet; looks again when the first of them is overdue.
fn evicted(
    budget: &PodDisruptionBudget,
    mine: &[&Arc<Pod>],
    plan: &mut Plan,
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let before = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone());
    let mut kept = BTreeMap::new();
    for (name, since) in before.unwrap_or_default() {
        let found = mine.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name));
        let Some(pod) = found.filter(|pod| !is_going(pod.as_ref())) else {
            continue;
        };
        let waited = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
        if waited < DELETION_MAX {
            plan.look_again(DELETION_MAX - waited);
            kept.insert(name, since);
            continue;
        }
        let (namespace, budget) = (&budget.metadata.namespace, &budget.metadata.name);
        let text = format!(
            "Pod was expected by PDB {}/{} to be deleted but it wasn't",
            namespace.as_deref().unwrap_or_default(),
            budget.as_deref().unwrap_or_default()
        );
        plan.tell(pod.as_ref(), EventType::Warning, "NotDeleted", text);
    }
    kept
}

fn status(
    budget: &PodDisruptionBudget,
    count: Count,
    evicted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let (is, reason) = match count.allowed() {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, is, reason, String::new(), now)),
        current_healthy: Some(count.healthy),
        desired_healthy: Some(count.desired),
        disrupted_pods: Some(evicted).filter(|pods| !pods.is_empty()),
        disruptions_allowed: Some(count.allowed()),
        expected_pods: Some(count.expected),
        observed_generation: budget.metadata.generation,
    }
}

/// What cannot be counted allows nothing.
fn failed(
    budget: &PodDisruptionBudget,
    why: String,
    plan: &mut Plan,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    plan.tell(
        budget,
        EventType::Warning,
        "CalculateExpectedPodCountFailed",
        format!("Failed to calculate the number of expected pods: {why}"),
    );
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, "False", "SyncFailed", why, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

/// The conditions with `DisruptionAllowed` among them, whose time moves only with its value; the others are others'.
fn conditions(
    budget: &PodDisruptionBudget,
    is: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Vec<Condition> {
    let before = budget
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut all = before.unwrap_or_default();
    let at = all.iter().position(|c| c.type_ == "DisruptionAllowed");
    let same = at.and_then(|at| all.get(at)).filter(|c| c.status == is);
    let ours = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: is.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
        observed_generation: budget.metadata.generation,
    };
    match at.and_then(|at| all.get_mut(at)) {
        Some(before) => *before = ours,
        None => all.push(ours),
    }
    all
}

/// The budgets that are about a pod.
pub fn keys_for_pod(pod: &Pod, view: &View) -> Vec<Key> {
    let budgets = view.budgets.list();
    budgets
        .iter()
        .filter(|budget| covers(budget, pod))
        .map(|budget| Key::of(budget.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::expected::ANSWER_AFTER;
    use super::*;
    use crate::scales::{Owner, STALE, Scales, Wanted};
    use client::Cache;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::{Value, json};

    fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(name: &str, ready: bool, owned: bool) -> Pod {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]);
        typed(json!({
            "metadata": {"name": name, "namespace": "d", "labels": {"app": "web"},
                         "ownerReferences": if owned { owner } else { json!([]) }},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
    }

    fn budget(spec: Value, disrupted: Value) -> PodDisruptionBudget {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        typed(json!({
            "metadata": {"name": "b", "namespace": "d", "generation": 3}, "spec": spec,
            "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
                       "disruptedPods": disrupted},
        }))
    }

    fn decide(budget: PodDisruptionBudget, pods: Vec<Pod>) -> (Plan, Value) {
        let set: ReplicaSet = typed(json!({"metadata": {"name": "web", "namespace": "d", "uid": "rs"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}}}));
        let mut view = View::empty();
        view.budgets = Cache::fixed([budget]);
        view.pods = Cache::fixed(pods);
        view.replica_sets = Cache::fixed([set]);
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let plan = Budgets.reconcile(&Key::new("d", "b"), &view, now);
        let Some(Write::Update(_, written)) = plan.writes.first().cloned() else {
            panic!("{plan:?}")
        };
        (plan, written["status"].clone())
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut budget = budget(json!({"minAvailable": 1}), json!({}));
        let other: Condition = typed(
            json!({"type": "Odd", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2025-01-01T00:00:00Z"}),
        );
        let ours = Condition {
            type_: "DisruptionAllowed".to_owned(),
            ..other.clone()
        };
        budget.status.as_mut().unwrap().conditions = Some(vec![ours, other]);
        let (_, status) = decide(budget, three());
        let types: Vec<&Value> = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["type"])
            .collect();
        assert_eq!(types, ["DisruptionAllowed", "Odd"]);
        // Its value is the same as before, and so is its time.
        assert_eq!(
            status["conditions"][0]["lastTransitionTime"],
            "2025-01-01T00:00:00Z"
        );
        assert_eq!(status["conditions"][0]["reason"], "SufficientPods");
    }

    fn three() -> Vec<Pod> {
        vec![pod("a", true, true), pod("b", true, true), pod("c", false, true)]
    }

    #[test]
    fn bounds_count_against_what_the_controllers_want() {
        for (spec, expected, desired, allowed) in [
            (json!({"minAvailable": 1}), 3, 1, 1),
            (json!({"minAvailable": "30%"}), 4, 2, 0),
            (json!({"maxUnavailable": 3}), 4, 1, 1),
            (json!({"maxUnavailable": "50%"}), 4, 2, 0),
            (json!({"minAvailable": 9}), 3, 9, 0),
            (json!({}), 0, 0, 0),
        ] {
            let (_, status) = decide(budget(spec.clone(), json!({})), three());
            assert_eq!(status["expectedPods"], expected, "{spec}");
            assert_eq!(status["desiredHealthy"], desired, "{spec}");
            assert_eq!(status["currentHealthy"], 2, "{spec}");
            assert_eq!(status["disruptionsAllowed"], allowed, "{spec}");
            assert_eq!(status["observedGeneration"], 3);
            let reason = if allowed > 0 {
                "SufficientPods"
            } else {
                "InsufficientPods"
            };
            assert_eq!(status["conditions"][0]["reason"], reason);
        }
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_it_is_overdue() {
        let (fresh, late) = ("2026-01-01T00:00:30Z", "2025-12-31T23:58:00Z");
        let (plan, status) = decide(
            budget(json!({"minAvailable": 1}), json!({"a": fresh, "gone": fresh})),
            three(),
        );
        assert_eq!(status["currentHealthy"], 1);
        assert_eq!(status["disruptedPods"], json!({"a": fresh}));
        assert_eq!(plan.again, Some(Duration::from_secs(90)));
        let (plan, status) = decide(budget(json!({"minAvailable": 1}), json!({"a": late})), three());
        assert_eq!(status["currentHealthy"], 2);
        assert!(status.get("disruptedPods").is_none());
        assert_eq!(plan.events[0].1.reason, "NotDeleted");
    }

    #[test]
    fn pods_without_a_controller_are_told_about() {
        let pods = vec![pod("a", true, false)];
        let (plan, status) = decide(budget(json!({"maxUnavailable": 1}), json!({})), pods);
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(plan.events[0].1.reason, "UnmanagedPods");
    }

    /// What becomes of a budget of pods that a StatefulSet owns, whose scale is this.
    fn of_stateful_set(wanted: Option<Wanted>) -> Plan {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u1", "controller": true}]);
        let pods = three().into_iter().map(|mut pod| {
            pod.metadata.owner_references = serde_json::from_value(owner.clone()).unwrap();
            pod
        });
        let asked = Owner {
            api_version: "apps/v1".into(),
            kind: "StatefulSet".into(),
            namespace: "d".into(),
            name: "db".into(),
        };
        let mut view = View::empty();
        view.budgets = Cache::fixed([budget(json!({"maxUnavailable": 2}), json!({}))]);
        view.pods = Cache::fixed(pods);
        view.scales = Scales::fixed(wanted.map(|wanted| (asked, wanted)));
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        Budgets.reconcile(&Key::new("d", "b"), &view, now)
    }

    #[test]
    fn owners_of_any_kind_are_asked_for_their_scale() {
        let plan = of_stateful_set(None);
        assert!(plan.writes.is_empty());
        assert_eq!(plan.again, Some(ANSWER_AFTER));

        let plan = of_stateful_set(Some(Wanted::Pods("u1".into(), 3)));
        let Some(Write::Update(_, written)) = plan.writes.first() else {
            panic!("{plan:?}")
        };
        assert_eq!(written["status"]["expectedPods"], 3);
        assert_eq!(written["status"]["desiredHealthy"], 1);
        assert_eq!(written["status"]["disruptionsAllowed"], 1);
        assert_eq!(plan.again, Some(STALE));

        for wanted in [
            Wanted::Gone,
            Wanted::Pods("another".into(), 3),
            Wanted::Unknown("no scale".into()),
        ] {
            let plan = of_stateful_set(Some(wanted));
            let Some(Write::Update(_, written)) = plan.writes.first() else {
                panic!("{plan:?}")
            };
            assert_eq!(written["status"]["disruptionsAllowed"], 0);
            assert_eq!(written["status"]["conditions"][0]["reason"], "SyncFailed");
        }
    }

    #[test]
    fn an_unknown_controller_allows_nothing() {
        let mut lost = pod("a", true, true);
        lost.metadata.owner_references.as_mut().unwrap()[0].name = "gone".into();
        let (_, status) = decide(budget(json!({"maxUnavailable": 1}), json!({})), vec![lost]);
        assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
        assert_eq!(status["disruptionsAllowed"], 0);
    }
}
