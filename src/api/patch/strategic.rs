//! Strategic merge patch: a merge patch that knows which lists merge by key,
//! with Kubernetes' directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
//! `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use super::does_not_fit;
use crate::schema::{Field, Merge, Node, Schema};
use crate::status::Status;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

const BAD_DOCUMENT: &str = "invalid JSON document";
const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";

/// Applies a strategic merge patch.
///
/// # Errors
/// 400 for a patch that breaks the format's rules, 422 for list items without their merge key.
pub fn strategic_merge(object: Value, patch: Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request(BAD_DOCUMENT));
    };
    merge_map(object, patch, Place::of(&Node::Struct(schema.root.clone()))).map(Value::Object)
}

/// What the schema says about where we are; nothing where the schema ends.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: Option<&'a Node>,
    merge: Option<&'a Merge>,
}

impl<'a> Place<'a> {
    fn of(node: &'a Node) -> Self {
        Self {
            node: Some(node),
            merge: None,
        }
    }

    fn field(self, key: &str) -> Self {
        match self.node {
            Some(Node::Struct(of)) => match of.get().field(key) {
                Some(Field { node, merge, .. }) => Self {
                    node: Some(node),
                    merge: Some(merge),
                },
                None => Self {
                    node: None,
                    merge: None,
                },
            },
            Some(Node::Map(value)) => Self::of(value),
            _ => Self {
                node: None,
                merge: None,
            },
        }
    }

    fn item(self) -> Self {
        match self.node {
            Some(Node::List(item)) => Self::of(item),
            _ => Self {
                node: None,
                merge: None,
            },
        }
    }

    fn merges_lists(self) -> bool {
        self.merge.is_some_and(|merge| merge.patch_merge)
    }

    fn replaces_maps(self) -> bool {
        self.merge.is_some_and(|merge| merge.patch_replace)
    }

    fn key(self) -> &'a str {
        self.merge.map_or("", |merge| merge.patch_key.as_ref())
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place<'_>,
) -> Result<Map<String, Value>, Status> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => return Ok(without_directives_map(patch)),
            Some("delete") => return Ok(Map::new()),
            Some("merge") => {}
            _ => {
                let map = Value::Object(patch);
                return Err(Status::bad_request(format!(
                    "unknown patch type: {directive} in map: {map}"
                )));
            }
        }
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, place)?;
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut original, list, &change)?;
            continue;
        }
        if change.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match original.remove(&key) {
            None => without_directives(change),
            Some(before) => merge_value(before, change, place.field(&key))?,
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn merge_value(before: Value, change: Value, place: Place<'_>) -> Result<Value, Status> {
    match (before, change) {
        (Value::Object(before), Value::Object(change)) if !place.replaces_maps() => {
            merge_map(before, change, place).map(Value::Object)
        }
        (Value::Array(before), Value::Array(change)) if place.merges_lists() => {
            merge_in_order(before, change, place).map(Value::Array)
        }
        (_, change) => Ok(without_directives(change)),
    }
}

/// `$retainKeys`: what it does not name goes; what the patch sets must be named.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Status> {
    let Some(list) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || Status::bad_request(BAD_RETAIN_KEYS);
    let retained = list.as_array().ok_or_else(bad)?;
    let named = |key: &str| retained.iter().any(|k| k.as_str() == Some(key));
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !key.starts_with('$') && !named(key))
    {
        return Err(bad());
    }
    original.retain(|key, _| named(key));
    Ok(())
}

fn delete_from(original: &mut Map<String, Value>, list: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone
        .as_array()
        .ok_or_else(|| Status::bad_request(BAD_PRIMITIVE_LIST))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// `$setElementOrder/…`: merges those lists and brings them into the order asked for.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    place: Place<'_>,
) -> Result<(), Status> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(Status::bad_request(BAD_ORDER));
        };
        let field = directive.strip_prefix(SET_ORDER).unwrap_or_default();
        let place = place.field(field);
        let change = match patch.remove(field) {
            Some(Value::Array(items)) => Some(items),
            Some(other) => {
                // Replaced by something that is no list, or removed: order means nothing then.
                patch.insert(field.to_owned(), other);
                continue;
            }
            None => None,
        };
        if let Some(gone) = patch.remove(&format!("{DELETE_FROM}{field}")) {
            delete_from(original, field, &gone)?;
        }
        if let Some(items) = &change {
            check_order(items, &order, place.key())?;
        }
        let before = match original.get(field) {
            Some(Value::Array(items)) => items.clone(),
            _ if change.is_none() => continue,
            _ => Vec::new(),
        };
        let merged = merge_list(before.clone(), change.unwrap_or_default(), place)?;
        original.insert(
            field.to_owned(),
            Value::Array(in_order(merged, &order, &before, place.key())),
        );
    }
    Ok(())
}

fn is_same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() {
        a == b
    } else {
        a.get(key).is_some() && a.get(key) == b.get(key)
    }
}

/// The patch's items must be named by the order, in that order.
fn check_order(items: &[Value], order: &[Value], key: &str) -> Result<(), Status> {
    let mut rest = order.iter();
    for item in items.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !rest.by_ref().any(|o| is_same(item, o, key)) {
            let text = |list: &[Value]| Value::Array(list.to_vec()).to_string();
            return Err(Status::bad_request(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                text(items),
                text(order)
            )));
        }
    }
    Ok(())
}

/// Items that `order` names stand in its order; the others keep their place among them as far as
/// the list `before` the patch tells it.
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Vec<Value> {
    let place_in = |list: &[Value], item: &Value| list.iter().position(|other| is_same(item, other, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| place_in(order, item).is_some());
    named.sort_by_key(|item| place_in(order, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(right), Some(left)) = (named.peek(), others.peek()) {
        let left_first = match (place_in(before, left), place_in(before, right)) {
            (Some(l), Some(r)) => l < r,
            _ => false,
        };
        out.extend(if left_first { others.next() } else { named.next() });
    }
    out.extend(named);
    out.extend(others);
    out
}

/// Merges a list for which the patch names no order: its own items' order counts then, so that new
/// items stand before those of the object that the patch does not mention.
fn merge_in_order(original: Vec<Value>, patch: Vec<Value>, place: Place<'_>) -> Result<Vec<Value>, Status> {
    let order: Vec<Value> = patch
        .iter()
        .filter(|item| item.get(DIRECTIVE).is_none())
        .cloned()
        .collect();
    let before = original.clone();
    let merged = merge_list(original, patch, place)?;
    Ok(in_order(merged, &order, &before, place.key()))
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, place: Place<'_>) -> Result<Vec<Value>, Status> {
    let all_maps = original.iter().chain(&patch).all(Value::is_object);
    if !all_maps || place.key().is_empty() {
        return Ok(merge_scalars(original, patch));
    }
    let key = place.key();
    let (directives, plain): (Vec<Value>, Vec<Value>) =
        patch.into_iter().partition(|item| item.get(DIRECTIVE).is_some());
    if directives.iter().any(|item| directive_of(item) == "replace") {
        return Ok(plain.into_iter().map(without_directives).collect());
    }
    let mut merged = original;
    for item in directives {
        match directive_of(&item) {
            "delete" => {
                keyed(&item, key)?;
                merged.retain(|other| !is_same(&item, other, key));
            }
            // An item's own `$patch: merge` is what happens anyway.
            "merge" => merge_item(&mut merged, item, place)?,
            other => {
                return Err(Status::bad_request(format!(
                    "unknown patch type: {other} in map: {item}"
                )));
            }
        }
    }
    for item in plain {
        merge_item(&mut merged, item, place)?;
    }
    Ok(merged)
}

fn directive_of(item: &Value) -> &str {
    item.get(DIRECTIVE).and_then(Value::as_str).unwrap_or_default()
}

fn keyed(item: &Value, key: &str) -> Result<(), Status> {
    if item.get(key).is_some_and(|value| !value.is_null()) {
        return Ok(());
    }
    Err(does_not_fit(format!(
        "map: {item} does not contain declared merge key: {key}"
    )))
}

fn merge_item(merged: &mut Vec<Value>, item: Value, place: Place<'_>) -> Result<(), Status> {
    let key = place.key();
    keyed(&item, key)?;
    match merged.iter_mut().find(|other| is_same(&item, other, key)) {
        Some(found) => {
            let before = std::mem::take(found);
            *found = merge_value(before, item, place.item())?;
        }
        None => merged.push(without_directives(item)),
    }
    Ok(())
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for item in original.into_iter().chain(patch) {
        if !merged.contains(&item) {
            merged.push(item);
        }
    }
    merged
}

/// A patch's value where the object had none: nulls and directives mean nothing there.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives_map(map)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| directive_of(item) != "delete")
                .map(without_directives)
                // An item that held nothing but a directive is none.
                .collect(),
        ),
        other => other,
    }
}

fn without_directives_map(map: Map<String, Value>) -> Map<String, Value> {
    let meaning_nothing = |key: &str, value: &Value| {
        value.is_null()
            || key == DIRECTIVE
            || key == RETAIN_KEYS
            || key.starts_with(SET_ORDER)
            || key.starts_with(DELETE_FROM)
    };
    map.into_iter()
        .filter(|(key, value)| !meaning_nothing(key, value))
        .map(|(key, value)| (key, without_directives(value)))
        .collect()
}

#[cfg(test)]
mod tests {
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
        let object =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
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
}
