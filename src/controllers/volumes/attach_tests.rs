//! What is attached and detached, and when.

use client::Cache;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::attach::Attachments;
use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

fn from<T: for<'de> k8s_openapi::serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A bound volume of a driver, used by a pod on each of those nodes.
fn view(mode: &str, on: &[&str], attached: Vec<Value>, node: Value) -> View {
    let pod = |node: &&str| {
        from(
            json!({"metadata": {"name": format!("p-{node}"), "namespace": "d"}, "spec": {"nodeName": node, "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}),
        )
    };
    View {
        pods: Cache::fixed(on.iter().map(pod)),
        claims: Cache::fixed([from(
            json!({"metadata": {"name": "data", "namespace": "d", "uid": "c1",
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}}),
        )]),
        volumes: Cache::fixed([from(
            json!({"metadata": {"name": "pv"}, "spec": {"accessModes": [mode],
            "claimRef": {"namespace": "d", "name": "data", "uid": "c1"},
            "csi": {"driver": "disks.example.com", "volumeHandle": "h"}}}),
        )]),
        attachments: Cache::fixed(attached.into_iter().map(from)),
        nodes: Cache::fixed([from(node)]),
        ..View::empty()
    }
}

fn node(in_use: &[&str], ready: &str) -> Value {
    json!({"metadata": {"name": "n1"}, "status": {"volumesInUse": in_use, "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn attachment(node: &str, attached: bool) -> Value {
    let name = api::csi::attachment_name("disks.example.com", "h", node);
    json!({"metadata": {"name": name, "uid": "u"}, "status": {"attached": attached},
        "spec": {"attacher": "disks.example.com", "nodeName": node, "source": {"persistentVolumeName": "pv"}}})
}

fn decide(view: &View) -> Plan {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    Attachments.reconcile(&Key::new("", "pv"), view, now)
}

const NAME: &str = "kubernetes.io/csi/disks.example.com^h";

#[test]
fn a_volume_is_attached_where_a_pod_uses_it() {
    let plan = decide(&view("ReadWriteOnce", &["n1"], vec![], node(&[], "True")));
    let [Write::Create(target, body)] = plan.writes.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(
        target.key.name,
        api::csi::attachment_name("disks.example.com", "h", "n1")
    );
    assert_eq!(body["spec"]["source"]["persistentVolumeName"], "pv");
    // Once it is, the node's list says so, and the pod is told.
    let plan = decide(&view(
        "ReadWriteOnce",
        &["n1"],
        vec![attachment("n1", true)],
        node(&[], "True"),
    ));
    let [Write::Patch(_, _, patch)] = plan.writes.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(patch["status"]["volumesAttached"][0]["name"], NAME);
    assert_eq!(plan.events[0].1.reason, "SuccessfulAttachVolume");
}

#[test]
fn a_volume_for_one_node_is_not_attached_to_another() {
    let there = || vec![attachment("n2", true)];
    let plan = decide(&view("ReadWriteOnce", &["n1", "n2"], there(), node(&[], "True")));
    assert!(plan.writes.is_empty(), "{plan:?}");
    assert!(
        plan.events[0]
            .1
            .message
            .starts_with("Multi-Attach error for volume \"pv\"")
    );
    let plan = decide(&view("ReadWriteMany", &["n1", "n2"], there(), node(&[], "True")));
    assert_eq!(plan.writes.len(), 1);
}

#[test]
fn a_volume_is_detached_when_its_node_has_let_go() {
    let there = || vec![attachment("n1", false)];
    let used = decide(&view("ReadWriteOnce", &[], there(), node(&[NAME], "True")));
    assert!(used.writes.is_empty() && used.again.is_some());
    let free = decide(&view("ReadWriteOnce", &[], there(), node(&[], "True")));
    assert!(matches!(free.writes.as_slice(), [Write::Delete { .. }]));
    // Nobody waits for ever for a node that is lost.
    let lost = decide(&view("ReadWriteOnce", &[], there(), node(&[NAME], "Unknown")));
    assert!(matches!(lost.writes.as_slice(), [Write::Delete { .. }]));
}

#[test]
fn what_others_attached_stays() {
    let mut theirs = attachment("n1", false);
    theirs["metadata"]["name"] = "va-of-an-operator".into();
    let plan = decide(&view("ReadWriteOnce", &[], vec![theirs], node(&[], "True")));
    assert_eq!(plan, Plan::nothing());
    // Nor does it matter whether there is such a volume.
    let unknown = View {
        volumes: Cache::fixed([]),
        ..view(
            "ReadWriteOnce",
            &[],
            vec![attachment("n1", false)],
            node(&[], "True"),
        )
    };
    assert!(matches!(
        decide(&unknown).writes.as_slice(),
        [Write::Delete { .. }]
    ));
}

#[test]
fn a_driver_that_attaches_nothing_gets_no_attachments() {
    let driver = json!({"metadata": {"name": "disks.example.com"}, "spec": {"attachRequired": false}});
    let view = View {
        drivers: Cache::fixed([from(driver)]),
        ..view("ReadWriteOnce", &["n1"], vec![], node(&[], "True"))
    };
    assert_eq!(decide(&view), Plan::nothing());
}
