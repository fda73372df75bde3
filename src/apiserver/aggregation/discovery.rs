//! What others serve, in the forms of discovery. Pure.

use serde_json::{Value, json};

/// The entry of a group version in aggregated discovery, made of its APIResourceList; of one that has never
/// answered, only that there is one.
pub fn aggregated_version(
    (group, version): (&str, &str),
    resources: Option<&[Value]>,
    available: bool,
) -> Value {
    let freshness = if available && resources.is_some() {
        "Current"
    } else {
        "Stale"
    };
    let mut entry = json!({"version": version, "freshness": freshness});
    let kind = |from: &Value| {
        let text = |key: &str, own: &str| match from[key].as_str().unwrap_or_default() {
            "" => own.to_owned(),
            other => other.to_owned(),
        };
        json!({"group": text("group", group), "version": text("version", version), "kind": text("kind", "")})
    };
    let resources = resources
        .map(|list| aggregated_resources(list, &kind))
        .unwrap_or_default();
    if !resources.is_empty() {
        entry["resources"] = resources.into();
    }
    entry
}

/// Resources with their parts beneath them, sorted by name as they came.
fn aggregated_resources(list: &[Value], kind: &dyn Fn(&Value) -> Value) -> Vec<Value> {
    let name = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
    let whole = list.iter().filter(|resource| !name(resource).contains('/'));
    let mut out: Vec<Value> = whole.map(|from| resource(from, kind(from))).collect();
    for part in list {
        let name = name(part);
        let Some((of, subresource)) = name.split_once('/') else {
            continue;
        };
        let made = json!({
            "subresource": subresource,
            "responseKind": kind(part),
            "verbs": part["verbs"],
        });
        match out.iter_mut().find(|resource| resource["resource"] == of) {
            Some(owner) => push(owner, made),
            // A part without its whole, such as a Scale of nothing: clients want an owner all the same.
            None => {
                let nothing = json!({"group": "", "version": "", "kind": ""});
                let mut owner = json!({"resource": of, "scope": scope(part), "responseKind": nothing});
                push(&mut owner, made);
                out.push(owner);
            }
        }
    }
    out
}

fn push(owner: &mut Value, part: Value) {
    match owner["subresources"].as_array_mut() {
        Some(parts) => parts.push(part),
        None => owner["subresources"] = json!([part]),
    }
}

fn resource(from: &Value, kind: Value) -> Value {
    let mut out = json!({
        "resource": from["name"],
        "responseKind": kind,
        "scope": scope(from),
        "singularResource": from["singularName"],
        "verbs": from["verbs"],
    });
    for list in ["shortNames", "categories"] {
        if from[list].is_array() {
            out[list] = from[list].clone();
        }
    }
    out
}

fn scope(from: &Value) -> &'static str {
    if from["namespaced"] == true {
        "Namespaced"
    } else {
        "Cluster"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_trees() {
        let list = [
            json!({"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat",
                "verbs": ["get", "list"], "shortNames": ["b"]}),
            json!({"name": "boats/status", "namespaced": true, "kind": "Boat", "verbs": ["update"]}),
        ];
        let entry = aggregated_version(("a.io", "v1"), Some(&list), true);
        assert_eq!(entry["freshness"], "Current");
        let boats = &entry["resources"][0];
        assert_eq!(
            (&boats["resource"], &boats["scope"]),
            (&json!("boats"), &json!("Namespaced"))
        );
        assert_eq!(boats["shortNames"], json!(["b"]));
        assert_eq!(
            boats["responseKind"],
            json!({"group": "a.io", "version": "v1", "kind": "Boat"})
        );
        assert_eq!(boats["subresources"][0]["subresource"], "status");
        let away = aggregated_version(("a.io", "v1"), Some(&list), false);
        assert_eq!(
            (&away["freshness"], away["resources"].is_array()),
            (&json!("Stale"), true)
        );
        assert_eq!(
            aggregated_version(("a.io", "v2"), None, true),
            json!({"version": "v2", "freshness": "Stale"})
        );
    }
}
