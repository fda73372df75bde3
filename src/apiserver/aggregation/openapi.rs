//! What others say of their types, merged into what this server says of its own. Pure.

use serde_json::{Map, Value};

const DEFINITIONS: &str = "#/definitions/";

/// Adds the paths of a group version, and the definitions that they need, to a v2 document. A definition of the same
/// name that says something else gets another name, as Kubernetes does.
pub fn merge_v2(document: &mut Value, mut other: Value, root: &str) {
    let below = |path: &str| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut paths = taken(&mut other, "paths");
    paths.retain(|path, _| below(path));
    let mut theirs = taken(&mut other, "definitions");
    let mut needed = Vec::new();
    paths.values().for_each(|path| references(path, &mut needed));
    let mut at = 0;
    while let Some(name) = needed.get(at).cloned() {
        if let Some(definition) = theirs.get(&name) {
            references(definition, &mut needed);
        }
        at += 1;
    }
    // What is about one of its kinds may be named by no path, and is explained all the same.
    theirs.retain(|name, definition| needed.contains(name) || is_about_a_kind(definition));
    let renamed = renamed(document, &theirs);
    let rename = |value: &mut Value| {
        if !renamed.is_empty() {
            rename(value, &renamed);
        }
    };
    for (path, mut item) in paths {
        rename(&mut item);
        place(document, "paths", path, item);
    }
    for (name, mut definition) in theirs {
        rename(&mut definition);
        let name = renamed
            .get(&name)
            .and_then(Value::as_str)
            .map_or(name.clone(), str::to_owned);
        place(document, "definitions", name, definition);
    }
}

fn taken(document: &mut Value, key: &str) -> Map<String, Value> {
    match document.get_mut(key).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn place(document: &mut Value, key: &str, name: String, value: Value) {
    if let Some(map) = document.get_mut(key).and_then(Value::as_object_mut) {
        map.entry(name).or_insert(value);
    }
}

fn is_about_a_kind(definition: &Value) -> bool {
    definition.get("x-kubernetes-group-version-kind").is_some()
}

/// The new names of those definitions that this document has already, with another meaning.
fn renamed(document: &Value, theirs: &Map<String, Value>) -> Map<String, Value> {
    let ours = document.get("definitions").and_then(Value::as_object);
    let ours = |name: &str| ours.and_then(|definitions| definitions.get(name));
    let mut out = Map::new();
    for (name, definition) in theirs {
        if ours(name).is_none_or(|known| known == definition) {
            continue;
        }
        let mut number = 2;
        let mut free = format!("{name}_v{number}");
        while ours(&free).is_some() || theirs.contains_key(&free) {
            number += 1;
            free = format!("{name}_v{number}");
        }
        out.insert(name.clone(), free.into());
    }
    out
}

/// The names of the definitions that a value refers to, each once.
fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let name = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|to| to.strip_prefix(DEFINITIONS));
            if let Some(name) = name.filter(|name| !out.iter().any(|known| known == name)) {
                out.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, out));
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, out)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &Map<String, Value>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(new) = to
                    .strip_prefix(DEFINITIONS)
                    .and_then(|name| names.get(name)?.as_str())
            {
                *to = format!("{DEFINITIONS}{new}");
            }
            map.values_mut().for_each(|inner| rename(inner, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rename(inner, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_group_version_comes_with_what_it_needs() {
        let mut ours =
            json!({"paths": {"/api/": {}}, "definitions": {"meta": {"type": "object"}, "same": {}}});
        let boat = json!({"properties": {"metadata": {"$ref": "#/definitions/meta"}}});
        let theirs = json!({
            "paths": {
                "/apis/a.io/v1/boats": {"get": {"schema": {"$ref": "#/definitions/boat"}}},
                "/apis/a.io/v10/boats": {}, "/healthz": {},
            },
            "definitions": {"boat": boat, "meta": {"type": "string"}, "unused": {}, "same": {}},
        });
        merge_v2(&mut ours, theirs, "/apis/a.io/v1");
        let names = |key: &str| ours[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("paths"), ["/api/", "/apis/a.io/v1/boats"]);
        assert_eq!(names("definitions"), ["boat", "meta", "meta_v2", "same"]);
        assert_eq!(
            ours["definitions"]["boat"]["properties"]["metadata"]["$ref"],
            "#/definitions/meta_v2"
        );
    }
}
