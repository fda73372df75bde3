//! Custom kinds in the OpenAPI documents: their schemas as they are in v3, and what v2 can say of them.

use serde_json::{Map, Value, json};

use super::Form;
use super::definitions::gvk;
use crate::custom::CustomKind;
use crate::kind::Kind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What v2 has no words for.
const NOT_IN_V2: &[&str] = &["allOf", "anyOf", "oneOf", "not", "nullable"];

/// The name of a kind's schema: its group backwards, version and kind, as in `com.example.v1.Thing`.
pub(super) fn name(kind: &Kind) -> String {
    let mut parts: Vec<&str> = kind.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), kind.version, kind.kind)
}

/// The schema of a kind, metadata by reference.
pub(super) fn schema(custom: &CustomKind, form: Form) -> Value {
    let kind = custom.kind();
    let own = custom.open_api();
    let mut made = match form {
        Form::V3 => own.clone(),
        Form::V2 => for_v2(own),
    };
    // Of what takes anything, v2 says no more than that it is an object: older clients would refuse the rest.
    if !made.is_object() || (form == Form::V2 && preserves(own)) {
        made = json!({"type": "object"});
    } else {
        add_common(&mut made, form);
        embedded(&mut made, form);
    }
    made["x-kubernetes-group-version-kind"] = json!([gvk(kind.group, kind.version, kind.kind)]);
    made
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Objects inside objects have what every object has.
fn embedded(schema: &mut Value, form: Form) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(|inner| embedded(inner, form));
            if map
                .get("x-kubernetes-embedded-resource")
                .is_some_and(|v| v == true)
            {
                add_common(schema, form);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| embedded(inner, form)),
        _ => {}
    }
}

/// What every object has.
fn add_common(schema: &mut Value, form: Form) {
    let text = |description: &str| json!({"type": "string", "description": description});
    let mut reference = form.reference(META);
    if form == Form::V3 {
        reference = json!({"allOf": [reference]});
    }
    reference["description"] = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata".into();
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    properties["apiVersion"] = text(
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
    );
    properties["kind"] = text(
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
    );
    properties["metadata"] = reference;
}

/// A schema in v2: without composition, without types where a value may be of several or null, and without
/// fields below what keeps unknown ones (older clients would refuse them).
fn for_v2(schema: &Value) -> Value {
    let Value::Object(map) = schema else {
        return schema.clone();
    };
    let flag = |key: &str| map.get(key).is_some_and(|v| v == true);
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    let mut out = Map::new();
    for (key, value) in map {
        let dropped = NOT_IN_V2.contains(&key.as_str())
            || (key == "type" && (flag("nullable") || preserve))
            || (preserve && matches!(key.as_str(), "properties" | "items" | "additionalProperties"));
        if dropped {
            continue;
        }
        let kept = match (key.as_str(), value) {
            ("properties", Value::Object(members)) => members
                .iter()
                .map(|(name, member)| (name.clone(), for_v2(member)))
                .collect(),
            ("items" | "additionalProperties", Value::Object(_)) => for_v2(value),
            _ => value.clone(),
        };
        out.insert(key.clone(), kept);
    }
    Value::Object(out)
}
