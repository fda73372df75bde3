//! What a Deployment decides, object by object: reversal, collisions, failures.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use super::Deployments;
use super::history;
use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A Deployment of three replicas with a deadline of ten seconds.
fn deployment(image: &str, annotations: Value) -> Deployment {
    from(json!({
        "metadata": {"name": "web", "namespace": "x", "uid": "d", "generation": 5, "annotations": annotations},
        "spec": {
            "replicas": 3, "progressDeadlineSeconds": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": image}]}},
        },
    }))
}

/// A ReplicaSet of that Deployment with `size` pods, all of them available or none.
fn set(name: &str, image: &str, revision: &str, size: i32, available: i32, rolled_out: bool) -> ReplicaSet {
    let mut annotations = json!({
        "deployment.kubernetes.io/revision": revision,
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
        "coracle.dev/rollback-on-deadline": "true",
    });
    if rolled_out {
        annotations["coracle.dev/rolled-out"] = "true".into();
    }
    from(json!({
        "metadata": {
            "name": name, "namespace": "x", "uid": name, "labels": {"app": "web", "pod-template-hash": name},
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true}],
        },
        "spec": {
            "replicas": size, "selector": {"matchLabels": {"app": "web", "pod-template-hash": name}},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": name}},
                "spec": {"containers": [{"name": "main", "image": image}]}},
        },
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available},
    }))
}

/// The status of a rollout to `set` whose condition `Progressing` has that reason since `since`.
fn status(deployment: &mut Deployment, reason: &str, message: &str, since: i64) {
    let status = if reason == "ProgressDeadlineExceeded" {
        "False"
    } else {
        "True"
    };
    deployment.status = from(json!({
        "observedGeneration": 5, "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3,
        "availableReplicas": 3, "unavailableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": status, "reason": reason, "message": message,
            "lastUpdateTime": at(since).to_string(), "lastTransitionTime": at(since).to_string()}],
    }));
}

/// A rollout to `bad` that has used up its time; the revisions before it are `olds`.
fn stuck(annotations: Value, olds: Vec<ReplicaSet>) -> (Deployment, View) {
    let mut deployment = deployment("bad", annotations);
    let late = "ReplicaSet \"web-bad\" has timed out progressing.";
    status(&mut deployment, "ProgressDeadlineExceeded", late, NOW - 5);
    let view = View::empty();
    for set in olds {
        view.replica_sets.apply(set);
    }
    view.replica_sets.apply(set("web-bad", "bad", "3", 1, 0, false));
    (deployment, view)
}

fn asked() -> Value {
    json!({"coracle.dev/rollback-on-deadline": "true", "deployment.kubernetes.io/revision": "3"})
}

fn good() -> Vec<ReplicaSet> {
    vec![
        set("web-older", "older", "1", 0, 0, true),
        set("web-good", "good", "2", 3, 3, true),
    ]
}

fn decide(deployment: Deployment, view: &View) -> Plan {
    view.deployments.apply(deployment);
    Deployments.reconcile(&Key::new("x", "web"), view, at(NOW))
}

fn json_patch(plan: &Plan) -> Option<&Value> {
    plan.writes.iter().find_map(|write| match write {
        Write::Patch(target, api::request::PatchType::Json, patch)
            if target.resource.plural == "deployments" =>
        {
            Some(patch)
        }
        _ => None,
    })
}

/// The status that a plan writes.
fn written(plan: &Plan) -> Value {
    let found = plan.writes.iter().rev().find_map(|write| match write {
        Write::Patch(target, _, patch) if target.subresource == "status" => Some(patch["status"].clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn condition(plan: &Plan, kind: &str) -> Value {
    let status = written(plan);
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
}

#[test]
fn a_rollout_past_its_deadline_goes_back_to_the_latest_good_revision() {
    let (deployment, view) = stuck(asked(), good());
    let plan = decide(deployment, &view);
    let patch = json_patch(&plan).unwrap();
    assert_eq!(
        patch[0],
        json!({"op": "test", "path": "/metadata/generation", "value": 5})
    );
    let template = &patch[1]["value"];
    assert_eq!(template["spec"]["containers"][0]["image"], "good");
    assert_eq!(template["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(patch[2]["path"], "/metadata/annotations/coracle.dev~1rolled-back");
    let notice = &plan.events[0].1;
    assert_eq!(notice.reason, "DeploymentRollback");
    assert!(
        notice
            .message
            .starts_with("Rolled back deployment \"web\" to revision 2: revision 3"),
        "{}",
        notice.message
    );
    assert_eq!(plan.writes.len(), 1, "{plan:?}");
}

#[test]
fn only_those_who_ask_are_reversed_and_not_while_paused() {
    for annotations in [
        json!({}),
        json!({"coracle.dev/rollback-on-deadline": "yes"}),
        json!({"coracle.dev/rollback-on-deadline": "false"}),
    ] {
        let (deployment, view) = stuck(annotations, good());
        assert!(json_patch(&decide(deployment, &view)).is_none());
    }
    let (mut deployment, view) = stuck(asked(), good());
    deployment.spec.as_mut().unwrap().paused = Some(true);
    assert!(json_patch(&decide(deployment, &view)).is_none());
}

#[test]
fn a_change_made_meanwhile_has_its_own_chance() {
    // The spec has changed since the status was written.
    let (mut deployment, view) = stuck(asked(), good());
    deployment.metadata.generation = Some(6);
    assert!(json_patch(&decide(deployment, &view)).is_none());
    // Another template that has a ReplicaSet already: the lateness was not its own.
    let (mut late, view) = stuck(asked(), good());
    let containers = &mut late
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap()
        .containers;
    containers[0].image = Some("older".to_owned());
    let plan = decide(late, &view);
    assert!(json_patch(&plan).is_none());
    assert_eq!(condition(&plan, "Progressing")["reason"], "FoundNewReplicaSet");
}

#[test]
fn a_reversal_is_not_reversed() {
    let back = json!({"from": "web-worse", "fromRevision": 2, "to": "web-bad", "toRevision": 1});
    let mut annotations = asked();
    annotations["coracle.dev/rolled-back"] = back.to_string().into();
    let (deployment, view) = stuck(annotations, good());
    let plan = decide(deployment, &view);
    assert!(json_patch(&plan).is_none());
    let verdict = condition(&plan, "RolledBack");
    assert_eq!(
        (&verdict["status"], &verdict["reason"]),
        (&json!("True"), &json!("ProgressDeadlineExceeded"))
    );
    assert!(
        verdict["message"].as_str().unwrap().contains("\"web-worse\""),
        "{verdict}"
    );
}

#[test]
fn without_a_good_revision_it_says_so_once() {
    let never_complete = vec![set("web-old", "old", "2", 3, 3, false)];
    let (deployment, view) = stuck(asked(), never_complete);
    let plan = decide(deployment.clone(), &view);
    assert!(json_patch(&plan).is_none());
    assert_eq!(condition(&plan, "RolledBack")["reason"], "RevisionNotFound");
    let told = |plan: &Plan| {
        plan.events
            .iter()
            .filter(|(_, n)| n.reason == "DeploymentRollbackRevisionNotFound")
            .count()
    };
    assert_eq!(told(&plan), 1);
    let mut again = deployment;
    again.status = from(written(&plan));
    assert_eq!(told(&decide(again, &view)), 0);
}

#[test]
fn a_good_revision_that_went_bad_is_no_candidate_any_more() {
    let (deployment, view) = stuck(asked(), good());
    view.replica_sets.apply(set("web-bad", "bad", "3", 1, 0, true));
    let plan = decide(deployment, &view);
    let Write::Patch(target, _, patch) = &plan.writes[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(target.key.name, "web-bad");
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({"coracle.dev/rolled-out": null})
    );
}

#[test]
fn completion_is_noted_and_the_users_next_template_forgets_the_reversal() {
    let back = json!({"from": "web-bad", "fromRevision": 2, "to": "web-good", "toRevision": 1});
    let mut annotations = asked();
    annotations["coracle.dev/rolled-back"] = back.to_string().into();
    let mut done = deployment("new", annotations);
    status(&mut done, "ReplicaSetUpdated", "", NOW);
    let numbers = done.status.as_mut().unwrap();
    (
        numbers.replicas,
        numbers.updated_replicas,
        numbers.available_replicas,
    ) = (Some(3), Some(3), Some(3));
    let view = View::empty();
    view.replica_sets.apply(set("web-new", "new", "4", 3, 3, false));
    let plan = decide(done, &view);
    let patched = |name: &str| {
        plan.writes.iter().find_map(|write| match write {
            Write::Patch(target, _, patch) if target.key.name == name && target.subresource.is_empty() => {
                Some(patch["metadata"]["annotations"].clone())
            }
            _ => None,
        })
    };
    assert_eq!(
        patched("web-new").unwrap(),
        json!({"coracle.dev/rolled-out": "true"})
    );
    let all: Vec<_> = plan.writes.iter().map(|write| format!("{write:?}")).collect();
    assert!(all.iter().any(|w| w.contains("rolled-back\": Null")), "{all:?}");
}

#[test]
fn the_deadline_is_told_in_kubernetes_words() {
    let mut slow = deployment("new", json!({}));
    status(&mut slow, "ReplicaSetUpdated", "", NOW - 9);
    let view = View::empty();
    view.replica_sets.apply(set("web-old", "old", "1", 3, 3, true));
    view.replica_sets.apply(set("web-new", "new", "2", 1, 0, false));
    let plan = decide(slow.clone(), &view);
    assert_eq!(plan.again, Some(Duration::from_secs(2)));
    status(&mut slow, "ReplicaSetUpdated", "", NOW - 10);
    let found = condition(&decide(slow, &view), "Progressing");
    assert_eq!(found["status"], "False");
    assert_eq!(found["reason"], "ProgressDeadlineExceeded");
    assert_eq!(
        found["message"],
        "ReplicaSet \"web-new\" has timed out progressing."
    );
}

#[test]
fn a_new_template_gets_a_set_and_a_taken_name_another() {
    let new = deployment("new", json!({}));
    let name = history::new_name(&new);
    let plan = decide(new.clone(), &View::empty());
    let progress = condition(&plan, "Progressing");
    assert_eq!(progress["reason"], "NewReplicaSetCreated");
    assert_eq!(progress["message"], format!("Created new replica set {name:?}"));

    let view = View::empty();
    view.replica_sets.apply(set(&name, "stranger", "1", 0, 0, false));
    let plan = decide(new.clone(), &view);
    assert!(
        !plan.writes.iter().any(|w| matches!(w, Write::Create(..))),
        "{plan:?}"
    );
    assert_eq!(written(&plan)["collisionCount"], 1);
    let mut next = new;
    next.status = from(written(&plan));
    assert_ne!(history::new_name(&next), name);
    let plan = decide(next, &view);
    assert!(
        plan.writes.iter().any(|w| matches!(w, Write::Create(..))),
        "{plan:?}"
    );
}

#[test]
fn a_refused_set_is_told() {
    let new = deployment("new", json!({}));
    let view = View::empty();
    let plan = decide(new, &view);
    let create = plan
        .writes
        .iter()
        .find(|w| matches!(w, Write::Create(..)))
        .unwrap();
    let name = create.target().key.name.clone();
    let plan = Deployments.failed(&Key::new("x", "web"), &view, create, "no room", at(NOW));
    let text = format!("Failed to create new replica set {name:?}: no room");
    assert_eq!(plan.events[0].1.message, text);
    assert_eq!(plan.events[0].1.reason, "ReplicaSetCreateError");
    let found = condition(&plan, "Progressing");
    assert_eq!(
        (&found["status"], &found["message"]),
        (&json!("False"), &json!(text))
    );
}

#[test]
fn a_sets_failure_is_the_deployments() {
    let mut slow = deployment("new", json!({}));
    status(&mut slow, "ReplicaSetUpdated", "", NOW);
    let mut broken = set("web-new", "new", "1", 3, 0, false);
    broken.status.as_mut().unwrap().conditions = from(json!([
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods \"web-new-\" is forbidden"}
    ]));
    let view = View::empty();
    view.replica_sets.apply(broken);
    let found = condition(&decide(slow, &view), "ReplicaFailure");
    assert_eq!(found["reason"], "FailedCreate");
    assert_eq!(found["message"], "pods \"web-new-\" is forbidden");
}

#[test]
fn conditions_of_others_stay() {
    let mut slow = deployment("new", json!({}));
    status(&mut slow, "ReplicaSetUpdated", "", NOW);
    let theirs = from(json!({"type": "example.com/Blessed", "status": "True", "reason": "ByHand"}));
    let status = slow.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(theirs);
    let mut broken = set("web-new", "new", "1", 3, 0, false);
    broken.status.as_mut().unwrap().conditions = from(json!([{"type": "ReplicaFailure", "status": "True"}]));
    let view = View::empty();
    view.replica_sets.apply(broken);
    let written = decide(slow, &view);
    assert_eq!(condition(&written, "ReplicaFailure")["status"], "True");
    assert_eq!(condition(&written, "example.com/Blessed")["reason"], "ByHand");
}
