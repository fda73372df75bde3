//! Custom kinds in the OpenAPI documents: their schemas as they are in v3, and what v2 can say of them.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::names::gvk;
use crate::custom::CustomKind;
use crate::kind::Kind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What v2 has no words for.
const NOT_IN_V2: &[&str] = &["allOf", "anyOf", "oneOf", "not", "nullable"];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
/// The same of objects inside objects.
const INNER_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const INNER_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

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
        Form::V3 => unfolded(own),
        Form::V2 => for_v2(own),
    };
    // Of what takes anything, v2 says no more than that it is an object: older clients would refuse the rest.
    if !made.is_object() || (form == Form::V2 && is(own, PRESERVE)) {
        made = json!({"type": "object"});
    } else {
        add_common(&mut made, form, API_VERSION, KIND);
        embedded(&mut made, form);
    }
    made["x-kubernetes-group-version-kind"] = json!([gvk(kind.group, kind.version, kind.kind)]);
    mark_selectable(&mut made, kind);
    made
}

/// Says of a schema by which fields objects of the kind may be selected.
pub(super) fn mark_selectable(schema: &mut Value, kind: &Kind) {
    let fields = kind.field_names.iter().map(|field| json!({"fieldPath": field}));
    let fields: Vec<Value> = fields.collect();
    if !fields.is_empty() {
        schema["x-kubernetes-selectable-fields"] = fields.into();
    }
}

fn is(schema: &Value, flag: &str) -> bool {
    schema.get(flag).is_some_and(|value| value == true)
}

/// The schemas right below one that say what members and items are.
fn inner_mut(schema: &mut Value) -> Vec<&mut Value> {
    let Some(map) = schema.as_object_mut() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for (key, below) in map {
        match (key.as_str(), below) {
            ("properties", Value::Object(members)) => out.extend(members.values_mut()),
            ("items" | "additionalProperties", below @ Value::Object(_)) => out.push(below),
            _ => {}
        }
    }
    out
}

/// Objects inside objects have what every object has, and must have what names their kind.
fn embedded(schema: &mut Value, form: Form) {
    for below in inner_mut(schema) {
        embedded(below, form);
    }
    if !is(schema, EMBEDDED) || (form == Form::V2 && is(schema, PRESERVE)) {
        return;
    }
    add_common(schema, form, INNER_API_VERSION, INNER_KIND);
    let required = &mut schema["required"];
    if !required.is_array() {
        *required = json!([]);
    }
    for name in ["kind", "apiVersion"] {
        if let Some(names) = required
            .as_array_mut()
            .filter(|names| !names.contains(&name.into()))
        {
            names.push(name.into());
        }
    }
}

/// What every object has.
fn add_common(schema: &mut Value, form: Form, api_version: &str, kind: &str) {
    let text = |description: &str| json!({"type": "string", "description": description});
    let mut reference = form.reference(META);
    if form == Form::V3 {
        reference = json!({"allOf": [reference]});
    }
    reference["description"] = METADATA.into();
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    properties["apiVersion"] = text(api_version);
    properties["kind"] = text(kind);
    properties["metadata"] = reference;
}

/// A schema in v3, in which a number or text says that it is one or the other.
fn unfolded(schema: &Value) -> Value {
    let mut made = schema.clone();
    unfold(&mut made);
    made
}

fn unfold(schema: &mut Value) {
    for below in inner_mut(schema) {
        unfold(below);
    }
    if !is(schema, "x-kubernetes-int-or-string") {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let said = |any: &Value| *any == either;
    if said(&schema["anyOf"]) || said(&schema["allOf"][0]["anyOf"]) {
        return;
    }
    if schema["anyOf"].as_array().is_none_or(Vec::is_empty) {
        schema["anyOf"] = either;
        return;
    }
    let mut all = vec![json!({"anyOf": either})];
    all.extend(schema["allOf"].as_array().into_iter().flatten().cloned());
    schema["allOf"] = all.into();
}

/// A schema in v2 (apiextensions `ToStructuralOpenAPIV2`): without composition, and without a type and members where
/// older clients would take them for all that a value can be.
fn for_v2(schema: &Value) -> Value {
    let Value::Object(map) = schema else {
        return schema.clone();
    };
    let nullable = is(schema, "nullable");
    let preserve = is(schema, PRESERVE);
    let open = nullable || preserve;
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    let without_items = open || !map.get("items").is_some_and(Value::is_object);
    let untyped = nullable || (kind == "array" && without_items) || (kind == "object" && preserve);
    let mut out = Map::new();
    for (key, value) in map {
        let kept = match (key.as_str(), value) {
            ("type", _) if untyped => continue,
            ("properties" | "items", _) if open => continue,
            (key, _) if NOT_IN_V2.contains(&key) => continue,
            ("properties", Value::Object(members)) => members
                .iter()
                .map(|(name, member)| (name.clone(), for_v2(member)))
                .collect(),
            ("items" | "additionalProperties", Value::Object(_)) => for_v2(value),
            ("required", Value::Array(names)) => match required_in_v2(names, schema, open) {
                Value::Null => continue,
                names => names,
            },
            _ => value.clone(),
        };
        out.insert(key.clone(), kept);
    }
    Value::Object(out)
}

/// Members that a client must give: not those that may be null, since v2 cannot say so.
fn required_in_v2(names: &[Value], schema: &Value, open: bool) -> Value {
    if schema
        .get("additionalProperties")
        .is_some_and(|more| is(more, "nullable"))
    {
        return Value::Null;
    }
    let member = |name: &Value| schema.get("properties")?.get(name.as_str()?);
    let nullable = |name: &&Value| !open && member(name).is_some_and(|member| is(member, "nullable"));
    let kept: Vec<Value> = names.iter().filter(|name| !nullable(name)).cloned().collect();
    if kept.is_empty() { Value::Null } else { kept.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custom::tests::kind;

    fn spec(member: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "b"],
            "properties": {"a": member, "b": {"type": "string"}}}}})
    }

    fn made(member: Value, form: Form) -> Value {
        schema(&kind(spec(member)), form)["properties"]["spec"].clone()
    }

    #[test]
    fn what_may_be_null_is_not_asked_for_in_v2() {
        let member = json!({"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}});
        let v2 = made(member.clone(), Form::V2);
        assert_eq!(v2["properties"]["a"], json!({}));
        assert_eq!(v2["required"], json!(["b"]));
        let v3 = made(member.clone(), Form::V3);
        assert_eq!(
            (&v3["properties"]["a"], &v3["required"]),
            (&member, &json!(["a", "b"]))
        );
    }

    #[test]
    fn what_keeps_unknown_members_says_little_in_v2() {
        let member = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"x": {"type": "string"}}});
        let v2 = made(member.clone(), Form::V2);
        assert_eq!(
            v2["properties"]["a"],
            json!({"x-kubernetes-preserve-unknown-fields": true})
        );
        assert_eq!(made(member.clone(), Form::V3)["properties"]["a"], member);
        let root = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"spec": {"type": "object"}}});
        let whole = schema(&kind(root), Form::V2);
        assert_eq!(
            (&whole["type"], &whole["properties"]),
            (&json!("object"), &Value::Null)
        );
    }

    #[test]
    fn numbers_or_texts_say_so_in_v3() {
        let member = json!({"x-kubernetes-int-or-string": true});
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        assert_eq!(made(member.clone(), Form::V3)["properties"]["a"]["anyOf"], either);
        assert_eq!(made(member, Form::V2)["properties"]["a"]["anyOf"], Value::Null);
        let more = json!({"x-kubernetes-int-or-string": true, "anyOf": [{"maximum": 5}]});
        let a = &made(more, Form::V3)["properties"]["a"];
        assert_eq!(a["allOf"], json!([{"anyOf": either}]));
        assert_eq!(a["anyOf"], json!([{"maximum": 5}]));
    }

    #[test]
    fn objects_inside_name_their_kind() {
        let member = json!({"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true});
        let a = &made(member.clone(), Form::V3)["properties"]["a"];
        assert_eq!(a["required"], json!(["kind", "apiVersion"]));
        assert!(a["properties"]["metadata"].is_object());
        let a = &made(member, Form::V2)["properties"]["a"];
        assert!(a["properties"].is_null() && a["required"].is_null(), "{a}");
    }

    #[test]
    fn selectable_fields_are_named() {
        let made = schema(&kind(spec(json!({"type": "string"}))), Form::V3);
        let fields = json!([{"fieldPath": "spec.colour"}]);
        assert_eq!(made["x-kubernetes-selectable-fields"], fields);
    }
}
