//! What the published types say about single values: which are possible, and which one an absent field has.
//!
//! Only documents about the API ask, and seldom, so nothing is kept: the table is searched each time.

use serde_json::Value;

use super::{Field, Node, Scalar};

static TABLE: &str = include_str!("values.txt");

/// All values that a field may have, or its items if it is a list, when its type names them. `type_name` is that of the
/// type with the field, as in the table of types (`core.v1.ContainerPort`).
pub fn possible(type_name: &str, field: &Field) -> Option<Value> {
    let bare = field.go_name?.rsplit('.').next()?;
    let (package, _) = type_name.rsplit_once('.')?;
    // A name stands for a type of the same package, or for one of the core's.
    find(&format!("{package}.{bare}")).or_else(|| find(&format!("core.v1.{bare}")))
}

/// The value that an absent field stands for: the one that its declaration names, else Go's zero where Go writes it.
pub fn standard(type_name: &str, field: &Field) -> Option<Value> {
    let named = find(&format!("{type_name}.{}", field.name));
    let written = match &field.node {
        Node::Struct(_) => !field.pointer,
        _ => field.always && !field.pointer,
    };
    named.or_else(|| zero(&field.node).filter(|_| written))
}

/// Go's zero value; none of what writes itself (times, quantities), may be null, or has no type.
pub fn zero(node: &Node) -> Option<Value> {
    match node {
        Node::Struct(_) => Some(Value::Object(serde_json::Map::new())),
        Node::Scalar(Scalar::String) => Some("".into()),
        Node::Scalar(Scalar::Bool) => Some(false.into()),
        Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double) => Some(0.into()),
        _ => None,
    }
}

fn find(name: &str) -> Option<Value> {
    let said = |line: &'static str| line.strip_prefix(name)?.strip_prefix(' ');
    let text = TABLE.lines().find_map(said)?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Schemas;
    use super::*;

    fn of(type_name: &str, field: &str) -> (Value, Value) {
        let found = Schemas::builtin().find(type_name).unwrap();
        let field = found.get().field(field).unwrap();
        let none = |value: Option<Value>| value.unwrap_or_default();
        (none(possible(type_name, field)), none(standard(type_name, field)))
    }

    #[test]
    fn fields_say_what_they_may_be_and_what_they_are() {
        let protocols = json!(["SCTP", "TCP", "UDP"]);
        for (type_name, field, values, default) in [
            (
                "core.v1.ContainerPort",
                "protocol",
                protocols.clone(),
                json!("TCP"),
            ),
            ("core.v1.ContainerPort", "containerPort", Value::Null, json!(0)),
            ("core.v1.ContainerPort", "hostPort", Value::Null, Value::Null),
            (
                "networking.v1.NetworkPolicyPort",
                "protocol",
                protocols,
                Value::Null,
            ),
            ("core.v1.Pod", "spec", Value::Null, json!({})),
            ("core.v1.PodSpec", "affinity", Value::Null, Value::Null),
            (
                "meta.v1.ObjectMeta",
                "creationTimestamp",
                Value::Null,
                Value::Null,
            ),
        ] {
            assert_eq!(of(type_name, field), (values, default), "{type_name}.{field}");
        }
        let modes = of("core.v1.PersistentVolumeSpec", "accessModes").0;
        assert_eq!(modes.as_array().unwrap().len(), 4);
    }

    #[test]
    fn every_line_is_about_something_there_is() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (name, text) = line.split_once(' ').unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            if value.is_array() {
                continue;
            }
            let (type_name, field) = name.rsplit_once('.').unwrap();
            let found = Schemas::builtin()
                .find(type_name)
                .unwrap_or_else(|| panic!("{line}"));
            assert!(found.get().field(field).is_some(), "{line}");
        }
    }
}
