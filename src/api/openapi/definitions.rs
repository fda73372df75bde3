//! The schemas of an OpenAPI document: the types behind the kinds, with
//! Kubernetes' extensions for merging.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::names::gvk;
use super::{custom, types, values};
use crate::kind::{Kind, KindRef};
use crate::schema::{ApplyKind, Field, Merge, Node, Schemas, shape, table_name};

const GVK: &str = "x-kubernetes-group-version-kind";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schemas of a document, and which of them belongs to which kind.
pub(super) struct Definitions {
    /// Schemas by name.
    pub schemas: Map<String, Value>,
    /// Names of the kinds' schemas, by group, version and kind.
    names: BTreeMap<(String, String, String), String>,
}

impl Definitions {
    /// The schemas behind `kinds`, the bodies of their subresources and their lists.
    pub fn of(kinds: &[KindRef], form: Form) -> Self {
        let settings = SchemaSettings::openapi3().with(|s| {
            s.definitions_path = form.definitions_path().into();
            s.transforms.clear();
        });
        let mut generator = SchemaGenerator::new(settings);
        types::add_common(&mut generator);
        let mut names = BTreeMap::new();
        for (group, version, kind) in every_kind(kinds) {
            if let Some(name) = types::add(&mut generator, group, version, kind) {
                names.insert((group.to_owned(), version.to_owned(), kind.to_owned()), name);
            }
        }
        let mut schemas = generator.take_definitions(false);
        for (name, schema) in &mut schemas {
            finish(name, schema, form);
        }
        for kind in kinds {
            if let Some(of) = kind.custom() {
                let name = custom::name(kind);
                schemas.insert(name.clone(), custom::schema(of, form));
                names.insert(
                    (
                        kind.group.to_owned(),
                        kind.version.to_owned(),
                        kind.kind.to_owned(),
                    ),
                    name,
                );
            }
        }
        let mut made = Self { schemas, names };
        made.mark_kinds();
        made.mark_common(kinds);
        kinds
            .iter()
            .filter(|kind| kind.has_verb("list"))
            .for_each(|kind| made.add_list(kind, form));
        made
    }

    /// The name of a kind's schema.
    pub fn name(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        self.names
            .get(&(group.to_owned(), version.to_owned(), kind.to_owned()))
            .map(String::as_str)
    }

    fn mark_kinds(&mut self) {
        for ((group, version, kind), name) in &self.names {
            let Some(Value::Object(schema)) = self.schemas.get_mut(name) else {
                continue;
            };
            schema.insert(GVK.to_owned(), json!([gvk(group, version, kind)]));
            // The Rust type always has metadata; the API does not ask for it.
            if let Some(Value::Array(required)) = schema.get_mut("required") {
                required.retain(|field| field != "metadata");
                if required.is_empty() {
                    schema.remove("required");
                }
            }
        }
    }

    /// Options are accepted in every group's clothes, and say so.
    fn mark_common(&mut self, kinds: &[KindRef]) {
        let mut versions: Vec<(&str, &str)> = kinds.iter().map(|kind| (kind.group, kind.version)).collect();
        versions.push(("", "v1"));
        versions.sort_unstable();
        versions.dedup();
        let marks: Vec<Value> = versions
            .iter()
            .map(|(group, version)| gvk(group, version, "DeleteOptions"))
            .collect();
        let mut mark = |name: &str, marks: Value| {
            if let Some(schema) = self.schemas.get_mut(&format!("{META}.{name}")) {
                schema[GVK] = marks;
            }
        };
        mark("DeleteOptions", Value::Array(marks));
        mark("Status", json!([gvk("", "v1", "Status")]));
        mark("APIResourceList", json!([gvk("", "v1", "APIResourceList")]));
    }

    fn add_list(&mut self, kind: &KindRef, form: Form) {
        let Some(item) = self.name(kind.group, kind.version, kind.kind).map(str::to_owned) else {
            return;
        };
        let (list, name) = (kind.list_kind(), format!("{item}List"));
        let text = |description: &str| json!({"type": "string", "description": description});
        let (mut items, mut metadata) = (form.reference(&item), form.reference(&format!("{META}.ListMeta")));
        metadata["description"] = "Standard list metadata.".into();
        if form == Form::V3 {
            for reference in [&mut items, &mut metadata] {
                reference["default"] = json!({});
                values::wrap_references(reference);
            }
        }
        let mut schema = json!({
            "type": "object",
            "description": format!("{list} is a list of {}.", kind.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": text("APIVersion defines the versioned schema of this representation of an object."),
                "kind": text("Kind is a string value representing the REST resource this object represents."),
                "metadata": metadata,
                "items": {"type": "array", "description": "The items of the list.", "items": items},
            },
            GVK: [gvk(kind.group, kind.version, &list)],
        });
        if kind.custom().is_some() {
            custom::mark_selectable(&mut schema, kind);
        }
        self.schemas.insert(name.clone(), schema);
        self.names
            .insert((kind.group.to_owned(), kind.version.to_owned(), list), name);
    }
}

/// Kinds with paths of their own, then the bodies of their subresources.
fn every_kind(kinds: &[KindRef]) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut out: Vec<_> = kinds
        .iter()
        .map(|kind| (kind.group, kind.version, kind.kind))
        .collect();
    for kind in kinds {
        for part in kind.subresources {
            let (group, version) = part_version(kind, part.group, part.version);
            out.push((group, version, part.kind));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// Group and version of a subresource's bodies.
pub(super) fn part_version(
    kind: &Kind,
    group: &'static str,
    version: &'static str,
) -> (&'static str, &'static str) {
    if version.is_empty() {
        (kind.group, kind.version)
    } else {
        (group, version)
    }
}

/// Types whose JSON is not what their Rust type says.
fn special(name: &str, form: Form) -> Option<Value> {
    let either = |types: &[&str]| Value::Array(types.iter().map(|t| json!({"type": t})).collect());
    match (name.rsplit('.').next()?, form) {
        ("Quantity", Form::V2) => Some(json!({"type": "string"})),
        ("Quantity", Form::V3) => Some(json!({"oneOf": either(&["string", "number"])})),
        ("IntOrString", Form::V2) => Some(json!({"type": "string", "format": "int-or-string"})),
        ("IntOrString", Form::V3) => {
            Some(json!({"oneOf": either(&["integer", "string"]), "format": "int-or-string"}))
        }
        ("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray", _) => {
            Some(json!({}))
        }
        ("Patch", _) if name.starts_with(META) => Some(json!({"type": "object"})),
        _ => None,
    }
}

fn finish(name: &str, schema: &mut Value, form: Form) {
    if let Some(mut special) = special(name, form) {
        if let Some(description) = schema.get("description") {
            special["description"] = description.clone();
        }
        *schema = special;
        return;
    }
    let type_name = &*shape(table_name(name).unwrap_or_default());
    let known = Schemas::builtin().find(type_name);
    let Value::Object(schema) = schema else { return };
    if known.as_ref().is_some_and(|known| known.get().atomic) {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (field, property) in properties {
        if let Some(field) = known.as_ref().and_then(|known| known.get().field(field)) {
            extend(property, field);
            values::enumerate(property, type_name, field);
            if form == Form::V3 {
                values::fill_in(property, type_name, field);
            }
        }
        if form == Form::V3 {
            values::wrap_references(property);
        }
    }
}

fn extend(property: &mut Value, field: &Field) {
    let Merge {
        apply,
        patch_merge,
        patch_replace,
        patch_retain_keys,
        patch_key,
    } = &field.merge;
    let Value::Object(property) = property else { return };
    let mut set = |key: &str, value: Value| drop(property.insert(key.to_owned(), value));
    match (apply, &field.node) {
        (ApplyKind::Keyed(keys), _) => {
            set("x-kubernetes-list-type", "map".into());
            set(
                "x-kubernetes-list-map-keys",
                keys.iter().map(|(key, _)| key.as_ref()).collect(),
            );
        }
        (ApplyKind::Set, _) => set("x-kubernetes-list-type", "set".into()),
        (_, Node::List(_)) => set("x-kubernetes-list-type", "atomic".into()),
        (ApplyKind::Atomic, _) => set("x-kubernetes-map-type", "atomic".into()),
        _ => {}
    }
    let strategies = [
        (patch_merge, "merge"),
        (patch_retain_keys, "retainKeys"),
        (patch_replace, "replace"),
    ];
    let strategies: Vec<&str> = strategies
        .iter()
        .filter(|(on, _)| **on)
        .map(|(_, name)| *name)
        .collect();
    if !strategies.is_empty() {
        set("x-kubernetes-patch-strategy", strategies.join(",").into());
    }
    if !patch_key.is_empty() {
        set("x-kubernetes-patch-merge-key", patch_key.as_ref().into());
    }
}
