use super::directives::BAD_RETAIN_KEYS;
use super::*;
use crate::schema::Schemas;
use proptest::prelude::*;
use serde_json::json;

fn patched(kind: &str, object: Value, patch: Value) -> Value {
    let group = if kind == "Deployment" { "apps" } else { "" };
    let schema = Schemas::builtin().for_kind(group, "v1", kind).unwrap();
    strategic_merge(object, patch, &schema).unwrap()
}

fn pod(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn merges_lists_by_their_key() {
    let object = pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
    let patch = pod(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]));
    let wanted =
        json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]);
    assert_eq!(patched("Pod", object, patch), pod(wanted));
}

#[test]
fn new_items_stand_before_those_not_mentioned() {
    let object = pod(json!([{"name": "old"}, {"name": "older"}]));
    let patch = pod(json!([{"name": "new"}]));
    let wanted = json!([{"name": "new"}, {"name": "old"}, {"name": "older"}]);
    assert_eq!(patched("Pod", object, patch), pod(wanted));
}

#[test]
fn replaces_lists_that_do_not_merge() {
    let object = pod(json!([{"name": "a", "command": ["x", "y"]}]));
    let patch = pod(json!([{"name": "a", "command": ["z"]}]));
    assert_eq!(
        patched("Pod", object, patch),
        pod(json!([{"name": "a", "command": ["z"]}]))
    );
    let object = json!({"spec": {"tolerations": [{"key": "a"}]}});
    let patch = json!({"spec": {"tolerations": [{"key": "b"}]}});
    assert_eq!(patched("Pod", object, patch.clone()), patch);
}

#[test]
fn scalars_of_a_set_unite() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["c", "a"]}});
    assert_eq!(
        patched("Pod", object, patch),
        json!({"metadata": {"finalizers": ["c", "a", "b"]}})
    );
    let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}});
    assert_eq!(
        patched("Pod", object, patch),
        json!({"metadata": {"finalizers": ["a", "c"]}})
    );
}

#[test]
fn patch_directives_replace_and_delete() {
    let object = pod(json!([{"name": "a", "image": "1"}, {"name": "b"}]));
    let patch = pod(json!([{"name": "a", "$patch": "delete"}]));
    assert_eq!(patched("Pod", object.clone(), patch), pod(json!([{"name": "b"}])));
    let patch = pod(json!([{"name": "c"}, {"$patch": "replace"}]));
    assert_eq!(patched("Pod", object.clone(), patch), pod(json!([{"name": "c"}])));
    let patch = json!({"spec": {"$patch": "replace", "nodeName": "n"}});
    assert_eq!(
        patched("Pod", object.clone(), patch),
        json!({"spec": {"nodeName": "n"}})
    );
    let patch = json!({"spec": {"$patch": "delete"}});
    assert_eq!(patched("Pod", object, patch), json!({"spec": {}}));
}

#[test]
fn retain_keys_drops_the_rest() {
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched("Deployment", object.clone(), patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    let patch = json!({"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}});
    let schema = Schemas::builtin().for_kind("apps", "v1", "Deployment").unwrap();
    let error = strategic_merge(object, patch, &schema).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (400, BAD_RETAIN_KEYS));
}

#[test]
fn set_element_order_orders_and_keeps_the_servers_items() {
    let object = pod(json!([{"name": "a"}, {"name": "sidecar"}, {"name": "b"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "3"}]}});
    // `sidecar` stands before `b` on the server, so it stays before it.
    let wanted = json!([{"name": "sidecar"}, {"name": "b"}, {"name": "c", "image": "3"}, {"name": "a"}]);
    assert_eq!(patched("Pod", object, patch), pod(wanted));
}

#[test]
fn ports_merge_by_container_port_alone() {
    let ports = |list: Value| pod(json!([{"name": "a", "ports": list}]));
    let object = ports(json!([{"containerPort": 80, "protocol": "TCP"}]));
    let patch = ports(json!([{"containerPort": 80, "name": "http"}]));
    let wanted = ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}]));
    assert_eq!(patched("Pod", object, patch), wanted);
}

#[test]
fn a_list_item_needs_its_key() {
    let schema = Schemas::builtin().for_kind("", "v1", "Pod").unwrap();
    let patch = pod(json!([{"image": "1"}]));
    let error = strategic_merge(pod(json!([{"name": "a"}])), patch, &schema).unwrap_err();
    assert_eq!(error.code, 422);
}

#[test]
fn nulls_remove_and_mean_nothing_in_new_parts() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = json!({"metadata": {"labels": {"a": null}, "annotations": {"x": null, "y": "1"}}});
    let wanted = json!({"metadata": {"labels": {"b": "2"}, "annotations": {"y": "1"}}});
    assert_eq!(patched("Pod", object, patch), wanted);
}

fn any_pod() -> impl Strategy<Value = Value> {
    let container = ("[abc]", "[123]").prop_map(|(name, image)| json!({"name": name, "image": image}));
    let finalizers = proptest::collection::btree_set("[xyz]", 0..3);
    (proptest::collection::vec(container, 0..4), finalizers).prop_map(|(mut containers, finalizers)| {
        containers.sort_by_key(|c| c["name"].to_string());
        containers.dedup_by_key(|c| c["name"].clone());
        json!({"metadata": {"finalizers": finalizers}, "spec": {"containers": containers}})
    })
}

proptest! {
    #[test]
    fn patching_twice_changes_nothing_more(object in any_pod(), patch in any_pod()) {
        let once = patched("Pod", object, patch.clone());
        prop_assert_eq!(patched("Pod", once.clone(), patch), once);
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in any_pod()) {
        prop_assert_eq!(patched("Pod", object.clone(), json!({})), object);
    }
}
