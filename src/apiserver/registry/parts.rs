//! What a write to each part of an object may change, and which rules hold for it. Pure.

use api::kind::Kind;
use api::object;
use api::status::FieldError;
use api::value;
use serde_json::Value;

use super::target::Part;

/// Takes back from `new` what this part's writes may not touch.
pub(super) fn prepare(kind: &Kind, part: Part, new: &mut Value, live: &Value) {
    match part {
        Part::Whole | Part::Scale => (kind.prepare_update)(new, live),
        Part::Status => (kind.prepare_status)(new, live),
        Part::Finalize => {
            let wanted = value::get(new, "spec.finalizers").clone();
            restore(new, live);
            put(new, "spec", "finalizers", wanted);
        }
        Part::Approval => {
            let wanted = value::get(new, "status.conditions").clone();
            restore(new, live);
            put(new, "status", "conditions", wanted);
        }
        Part::Ephemeral => {
            let wanted = value::get(new, "spec.ephemeralContainers").clone();
            restore(new, live);
            put(new, "spec", "ephemeralContainers", wanted);
        }
        Part::Resize => resize(new, live),
    }
}

/// Everything as it was, but for the managed fields that were just computed.
fn restore(new: &mut Value, live: &Value) {
    let managed = value::get(new, "metadata.managedFields").clone();
    *new = live.clone();
    put(new, "metadata", "managedFields", managed);
}

fn put(object: &mut Value, parent: &str, key: &str, value: Value) {
    if value.is_null() {
        object::remove(object, &[parent, key]);
    } else {
        object::set(object, &[parent, key], value);
    }
}

/// Keeps of a resize only the containers' resources (and their resize policies' targets).
fn resize(new: &mut Value, live: &Value) {
    let wanted = new.clone();
    restore(new, live);
    for list in ["spec.containers", "spec.initContainers"] {
        let asked = value::list(&wanted, list);
        value::each(new, list, |container| {
            let name = value::text(container, "name").to_owned();
            if let Some(same) = asked.iter().find(|c| value::text(c, "name") == name) {
                let resources = value::get(same, "resources").clone();
                value::set(container, "resources", resources);
            }
        });
    }
    api::kinds::metadata::bump_generation_on_spec(new, live);
}

/// What is wrong with the changed object.
pub(super) fn check(kind: &Kind, part: Part, new: &Value, live: &Value) -> Vec<FieldError> {
    match part {
        Part::Whole | Part::Scale => kind.check_update(new, live),
        Part::Status | Part::Approval | Part::Finalize => kind.check_status(new, live),
        Part::Ephemeral => ephemeral(new, live),
        Part::Resize => resized(new, live),
    }
}

/// Ephemeral containers are added and never changed or removed.
fn ephemeral(new: &Value, live: &Value) -> Vec<FieldError> {
    const PATH: &str = "spec.ephemeralContainers";
    let (new, live) = (value::list(new, PATH), value::list(live, PATH));
    let mut errors = Vec::new();
    for old in live {
        let name = value::text(old, "name");
        match new.iter().find(|c| value::text(c, "name") == name) {
            None => errors.push(FieldError::forbidden(
                PATH,
                format!("existing ephemeral containers {name:?} may not be removed\n"),
            )),
            Some(same) if !value::same(same, old) => errors.push(FieldError::forbidden(
                PATH,
                format!("existing ephemeral containers {name:?} may not be changed\n"),
            )),
            Some(_) => {}
        }
    }
    for (i, container) in new.iter().enumerate() {
        for key in ["name", "image"] {
            if value::text(container, key).is_empty() {
                errors.push(FieldError::required(format!("{PATH}[{i}].{key}"), ""));
            }
        }
    }
    errors
}

/// A resize changes amounts, not which quality of service the pod was given.
fn resized(new: &Value, live: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if value::text(live, "status.phase") == "Succeeded" || value::text(live, "status.phase") == "Failed" {
        errors.push(FieldError::forbidden(
            "",
            "Pod is not running and cannot be resized",
        ));
    }
    for list in ["spec.containers", "spec.initContainers"] {
        for (i, container) in value::list(new, list).iter().enumerate() {
            let before = value::list(live, list).get(i);
            let Some(before) = before else { continue };
            for kind in ["limits", "requests"] {
                let path = format!("resources.{kind}");
                let given = |c: &Value| -> Vec<String> {
                    value::entries(c, &path).map(|(name, _)| name.clone()).collect()
                };
                let (now, was) = (given(container), given(before));
                if was.iter().any(|name| !now.contains(name)) {
                    errors.push(FieldError::forbidden(
                        format!("{list}[{i}].{path}"),
                        format!("resource {kind} cannot be removed"),
                    ));
                }
                let changed = value::entries(container, &path)
                    .filter(|(name, amount)| value::get(before, &path).get(name.as_str()) != Some(amount))
                    .find(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
                if let Some((name, _)) = changed {
                    errors.push(FieldError::forbidden(
                        format!("{list}[{i}].{path}"),
                        format!("only cpu and memory resources are mutable, not {name}"),
                    ));
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> &'static Kind {
        api::kinds::find("", "v1", "pods").unwrap()
    }

    #[test]
    fn a_part_changes_nothing_else() {
        let live = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i",
                          "resources": {"limits": {"cpu": "1"}}}], "nodeName": "n"}});
        let mut new = live.clone();
        new["spec"]["nodeName"] = "other".into();
        new["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "2".into();
        new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
        let mut ephemeral = new.clone();
        prepare(pods(), Part::Ephemeral, &mut ephemeral, &live);
        assert_eq!(ephemeral["spec"]["nodeName"], "n");
        assert_eq!(ephemeral["spec"]["ephemeralContainers"][0]["name"], "e");
        assert_eq!(ephemeral["spec"]["containers"], live["spec"]["containers"]);
        prepare(pods(), Part::Resize, &mut new, &live);
        assert_eq!(new["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2");
        assert_eq!(new["spec"]["nodeName"], "n");
        assert_eq!(new["spec"].get("ephemeralContainers"), None);
    }

    #[test]
    fn ephemeral_containers_stay() {
        let live = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
        assert_eq!(
            check(pods(), Part::Ephemeral, &json!({"spec": {}}), &live).len(),
            1
        );
        assert!(check(pods(), Part::Ephemeral, &live, &live).is_empty());
        let resize =
            |cpu: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"limits": cpu}}]}});
        let live = resize(json!({"cpu": "1"}));
        assert!(check(pods(), Part::Resize, &resize(json!({"cpu": "2"})), &live).is_empty());
        assert_eq!(check(pods(), Part::Resize, &resize(json!({})), &live).len(), 1);
        assert_eq!(
            check(
                pods(),
                Part::Resize,
                &resize(json!({"cpu": "1", "gpu": "1"})),
                &live
            )
            .len(),
            1
        );
    }
}
