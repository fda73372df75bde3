//! The one canonical form of an object, before apply, comparison and storage.
//!
//! It is the form in which Go's encoder would have written the typed object:
//! nulls and `omitempty` zero values are gone, structs that are not pointers
//! are there even when empty, quantities and times have one spelling. Without
//! it two spellings of the same object would differ, and managed fields would
//! record changes that nobody made.

use serde_json::{Map, Value};

use crate::object::{micro_time_text, time_text};
use crate::quantity;
use crate::schema::{Field, Node, Scalar, Schema, Type};

/// Brings `object` into canonical form. What the schema does not know stays as it is.
pub fn canonicalize(object: &mut Value, schema: &Schema) {
    structure(object, schema.root.get());
}

/// Gives quantities and times their one spelling and changes nothing else: for configurations that
/// are applied, where what is written counts even when it is empty.
pub fn respell(object: &mut Value, schema: &Schema) {
    respell_node(object, &Node::Struct(schema.root.clone()));
}

fn respell_node(value: &mut Value, of: &Node) {
    match (of, value) {
        (Node::Struct(inner), Value::Object(map)) => {
            for (key, value) in map {
                if let Some(field) = inner.get().field(key) {
                    respell_node(value, &field.node);
                }
            }
        }
        (Node::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| respell_node(value, item))
        }
        (Node::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|value| respell_node(value, inner))
        }
        (Node::Scalar(scalar), value) => spell(value, *scalar),
        _ => {}
    }
}

/// Fills in what a reader of this schema insists on and nobody has said: what Go writes for it, and where that is
/// null, the first moment, or a list or map of nothing. So can be read whatever Go's clients can read.
pub fn complete(object: &mut Value, schema: &Schema) {
    complete_struct(object, schema.root.get());
}

fn complete_struct(value: &mut Value, of: &Type) {
    let Value::Object(map) = value else { return };
    for field in &of.fields {
        if let Some(value) = map.get_mut(field.name.as_ref()).filter(|value| !value.is_null()) {
            complete_node(value, &field.node);
            continue;
        }
        let missing = match &field.node {
            _ if field.pointer => None,
            Node::Struct(inner) => {
                let mut value = Value::Object(Map::new());
                complete_struct(&mut value, inner.get());
                Some(value)
            }
            _ if !field.always => None,
            Node::List(_) => Some(Value::Array(Vec::new())),
            Node::Map(_) => Some(Value::Object(Map::new())),
            Node::Scalar(Scalar::Time) => Some("0001-01-01T00:00:00Z".into()),
            Node::Scalar(Scalar::MicroTime) => Some("0001-01-01T00:00:00.000000Z".into()),
            Node::Scalar(_) | Node::Any => filled(field),
        };
        match missing {
            Some(value) => drop(map.insert(field.name.clone().into_owned(), value)),
            None => drop(map.remove(field.name.as_ref())),
        }
    }
}

fn complete_node(value: &mut Value, of: &Node) {
    match (of, value) {
        (Node::Struct(inner), value) => complete_struct(value, inner.get()),
        (Node::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| complete_node(value, item))
        }
        (Node::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|value| complete_node(value, inner))
        }
        _ => {}
    }
}

/// The object that Go starts from before it decodes anything: what a create is compared with to
/// find out which fields the creator set. Lists and maps that are always written are null.
pub fn blank(schema: &Schema) -> &Value {
    schema.blank.get_or_init(|| blank_struct(schema.root.get()))
}

fn blank_struct(of: &Type) -> Value {
    let mut out = Map::new();
    for field in of.fields.iter().filter(|field| !field.pointer) {
        let value = match &field.node {
            Node::Struct(inner) => Some(blank_struct(inner.get())),
            Node::List(_) | Node::Map(_) => field.always.then_some(Value::Null),
            Node::Scalar(scalar) => field.always.then(|| zero(*scalar)).flatten(),
            Node::Any => None,
        };
        if let Some(value) = value {
            out.insert(field.name.clone().into_owned(), value);
        }
    }
    Value::Object(out)
}

fn structure(value: &mut Value, of: &Type) {
    let Value::Object(map) = value else { return };
    for field in &of.fields {
        let kept = match map.get_mut(field.name.as_ref()) {
            Some(Value::Null) if field.nullable => Some(true),
            None | Some(Value::Null) => None,
            Some(value) => {
                node(value, &field.node);
                Some(!omitted(value, field))
            }
        };
        match kept {
            Some(true) => {}
            Some(false) => drop(map.remove(field.name.as_ref())),
            None => {
                map.remove(field.name.as_ref());
                if let Some(value) = filled(field) {
                    map.insert(field.name.clone().into_owned(), value);
                }
            }
        }
    }
}

fn node(value: &mut Value, of: &Node) {
    match (of, value) {
        (Node::Struct(inner), value) => structure(value, inner.get()),
        (Node::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| node(value, item)),
        (Node::Map(inner), Value::Object(map)) => map.values_mut().for_each(|value| node(value, inner)),
        (Node::Scalar(scalar), value) => spell(value, *scalar),
        _ => {}
    }
}

/// Whether Go's `omitempty` leaves it out.
fn omitted(value: &Value, field: &Field) -> bool {
    if field.pointer || field.always {
        return false;
    }
    match (value, &field.node) {
        (Value::Array(items), Node::List(_)) => items.is_empty(),
        (Value::Object(map), Node::Map(_)) => map.is_empty(),
        (Value::String(text), Node::Scalar(Scalar::String | Scalar::Bytes)) => text.is_empty(),
        (Value::Bool(flag), _) => !flag,
        (Value::Number(number), Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double)) => {
            number.as_f64() == Some(0.0)
        }
        _ => false,
    }
}

/// What Go writes for a field that nobody set.
fn filled(field: &Field) -> Option<Value> {
    if field.pointer {
        return None;
    }
    match &field.node {
        Node::Struct(inner) => {
            let mut value = Value::Object(Map::new());
            structure(&mut value, inner.get());
            Some(value)
        }
        // A struct in Go, so `omitempty` never leaves it out.
        Node::Scalar(Scalar::Quantity) => Some("0".into()),
        Node::Scalar(scalar) if field.always => zero(*scalar),
        _ => None,
    }
}

fn zero(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::String => Some("".into()),
        Scalar::Bool => Some(false.into()),
        Scalar::Int32 | Scalar::Int64 | Scalar::Double => Some(0.into()),
        _ => None,
    }
}

/// One spelling for quantities and times; what cannot be read stays, for validation to refuse.
fn spell(value: &mut Value, scalar: Scalar) {
    let text = match (&*value, scalar) {
        (Value::String(text), _) => text.as_str(),
        (Value::Number(number), Scalar::Quantity) => {
            *value = Value::String(number.to_string());
            return spell(value, scalar);
        }
        _ => return,
    };
    let spelt = match scalar {
        // What comes from the store, and from a client that has read it.
        Scalar::Time if is_spelt(text) => None,
        Scalar::Quantity => quantity::canonical(text).ok(),
        Scalar::Time => text.parse().ok().map(time_text),
        Scalar::MicroTime => text.parse().ok().map(micro_time_text),
        _ => None,
    };
    if let Some(spelt) = spelt {
        *value = Value::String(spelt);
    }
}

/// Whether a time cannot be spelt in another way. (A leap second can.)
fn is_spelt(time: &str) -> bool {
    const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let alike = |(is, shape): (u8, u8)| match shape {
        b'0' => is.is_ascii_digit(),
        sign => is == sign,
    };
    time.len() == SHAPE.len()
        && time.bytes().zip(*SHAPE).all(alike)
        && time.get(17..18).is_some_and(|tens| tens < "6")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{SchemaRef, Schemas};
    use serde_json::json;

    fn schema(group: &str, kind: &str) -> SchemaRef {
        Schemas::builtin().for_kind(group, "v1", kind).unwrap()
    }

    fn canonical(mut object: Value, group: &str, kind: &str) -> Value {
        let schema = schema(group, kind);
        canonicalize(&mut object, &schema);
        let mut again = object.clone();
        canonicalize(&mut again, &schema);
        assert_eq!(object, again, "canonical form is stable");
        object
    }

    #[test]
    fn writes_what_go_would_write() {
        let pod = canonical(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {}, "generation": 0},
                "spec": {"hostNetwork": false, "nodeName": "", "terminationGracePeriodSeconds": 0,
                    "volumes": [], "securityContext": {}, "affinity": null,
                    "containers": [{"name": "c", "command": [], "env": [{"name": "X", "value": ""}],
                        "resources": {"limits": {"cpu": "1000m", "memory": 1024}}}]}}),
            "",
            "Pod",
        );
        assert_eq!(
            pod,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"terminationGracePeriodSeconds": 0, "securityContext": {},
                    "containers": [{"name": "c", "env": [{"name": "X"}],
                        "resources": {"limits": {"cpu": "1", "memory": "1024"}}}]},
                "status": {}})
        );
    }

    #[test]
    fn fills_in_structs_that_are_not_pointers() {
        let deployment = canonical(
            json!({"spec": {"template": {"spec": {"containers": []}}}}),
            "apps",
            "Deployment",
        );
        assert_eq!(
            deployment,
            json!({"metadata": {}, "status": {},
                "spec": {"strategy": {}, "template": {"metadata": {}, "spec": {"containers": []}}}})
        );
        let service = canonical(json!({"spec": {}}), "", "Service");
        assert_eq!(service["status"], json!({"loadBalancer": {}}));
    }

    #[test]
    fn spells_times_in_one_way() {
        let lease = canonical(
            json!({"metadata": {"creationTimestamp": "2024-01-01T02:00:00.5+02:00"},
                "spec": {"renewTime": "2024-01-01T00:00:00.5Z"}}),
            "coordination.k8s.io",
            "Lease",
        );
        assert_eq!(lease["metadata"]["creationTimestamp"], "2024-01-01T00:00:00Z");
        for (sent, kept) in [
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T23:59:59z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T23:59:59Z", "2016-12-31T23:59:59Z"),
            ("2016-13-31T23:59:59Z", "2016-13-31T23:59:59Z"),
        ] {
            let lease = canonical(
                json!({"metadata": {"creationTimestamp": sent}}),
                "coordination.k8s.io",
                "Lease",
            );
            assert_eq!(lease["metadata"]["creationTimestamp"], kept);
        }
        assert_eq!(lease["spec"]["renewTime"], "2024-01-01T00:00:00.500000Z");
    }

    #[test]
    fn a_blank_object_shows_what_is_always_written() {
        let schema = schema("apps", "Deployment");
        let blank = blank(&schema);
        assert_eq!(blank["spec"]["template"]["spec"]["containers"], Value::Null);
        assert!(blank["spec"]["template"]["spec"].get("containers").is_some());
        assert!(blank["spec"].get("replicas").is_none());
    }
}
