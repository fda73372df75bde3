//! ReplicationController: what ReplicaSets were called before they could select by more than equality.

use client::Cache;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition};

use crate::replicating::{Labels, Replicating, Wants};
use crate::view::View;

impl Replicating for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";
    const QUEUE: &'static str = "replicationmanager";

    fn cache(view: &View) -> &Cache<Self> {
        &view.replication_controllers
    }

    fn wants(&self) -> Wants<'_> {
        let spec = self.spec.as_ref();
        Wants {
            replicas: spec.and_then(|spec| spec.replicas),
            template: spec.and_then(|spec| spec.template.as_ref()),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
        }
    }

    fn picks(&self, labels: Option<&Labels>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
            return false;
        };
        let mut wanted = selector.iter();
        wanted.all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status
            .conditions
            .map(|all| all.into_iter().map(condition).collect());
        ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }
    }

    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus {
        ReplicaSetStatus {
            terminating_replicas: None,
            ..status
        }
    }
}

fn condition(of: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: of.last_transition_time,
        message: of.message,
        reason: of.reason,
        status: of.status,
        type_: of.type_,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::Reconciler;
    use crate::plan::{Key, Plan, Write};
    use crate::replicaset::{Replicas, keys_for_pod};

    fn view(controller: Value, pods: &[Value]) -> View {
        let pod = |pod: &Value| serde_json::from_value(pod.clone()).unwrap();
        View {
            replication_controllers: Cache::fixed([serde_json::from_value(controller).unwrap()]),
            pods: Cache::fixed(pods.iter().map(pod)),
            ..View::empty()
        }
    }

    fn controller(replicas: i32, status: Value) -> Value {
        json!({"metadata": {"name": "rc", "namespace": "d", "uid": "u", "generation": 1}, "status": status,
            "spec": {"replicas": replicas, "selector": {"app": "a"},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}}}})
    }

    fn pod(name: &str, owners: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "d", "labels": {"app": "a"}, "ownerReferences": owners}})
    }

    fn decide(view: &View) -> Plan {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Replicas::<ReplicationController>::default().reconcile(&Key::new("d", "rc"), view, now)
    }

    #[test]
    fn pods_are_made_and_adopted() {
        let orphan = pod("orphan", json!([]));
        let of_a_set = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "v",
            "controller": true}]);
        let view = view(controller(2, json!({})), &[orphan, pod("other", of_a_set)]);
        let plan = decide(&view);
        let [
            Write::Patch(_, _, adoption),
            Write::Create(_, made),
            Write::Patch(_, _, status),
        ] = plan.writes.as_slice()
        else {
            panic!("{plan:?}");
        };
        let owner = &adoption["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["apiVersion"]),
            (&json!("ReplicationController"), &json!("v1"))
        );
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(
            (
                &status["status"]["replicas"],
                &status["status"]["observedGeneration"]
            ),
            (&json!(1), &json!(1))
        );
        let keys = |name| keys_for_pod::<ReplicationController>(&view.pods.get("d", name).unwrap(), &view);
        assert_eq!(
            (keys("orphan"), keys("other")),
            (vec![Key::new("d", "rc")], vec![])
        );
    }

    #[test]
    fn what_it_has_no_words_for_is_not_told() {
        let owners = json!([{"apiVersion": "v1", "kind": "ReplicationController", "name": "rc", "uid": "u",
            "controller": true}]);
        let mut going = pod("going", owners);
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let status = json!({"replicas": 0, "observedGeneration": 1, "conditions": []});
        assert_eq!(decide(&view(controller(0, status), &[going])), Plan::nothing());
    }
}
