//! LimitRange: bounds and defaults for what containers and pods of a namespace ask for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pod::resources;
use crate::kind::Kind;
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::{Field, each, entries, fill, get, get_mut, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    create_on_update: true,
    storage_version_hash: "EBKMFVe6cwo=",
    default: |range| each(range, "spec.limits", default_item),
    validate,
    validate_update: |new, _| validate(new),
    ..Kind::NAMESPACED
};

/// For containers: the default limit is the maximum; the default request is the default limit, else the minimum.
fn default_item(item: &mut Value) {
    if text(item, "type") != "Container" {
        return;
    }
    for (key, from) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        let source: Vec<(String, Value)> = entries(item, from).map(|(k, v)| (k.clone(), v.clone())).collect();
        if source.is_empty() {
            continue;
        }
        fill(item, key, json!({}));
        if let Some(amounts) = get_mut(item, key) {
            source
                .into_iter()
                .for_each(|(name, amount)| fill(amounts, &name, amount));
        }
    }
}

fn validate(range: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for item in Field::at(range, "spec").items("limits") {
        let kind = item.get("type");
        type_name(&kind, &mut errors);
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
        self::item(&item, &mut errors);
    }
    errors
}

fn type_name(kind: &Field, errors: &mut Vec<FieldError>) {
    let wrong = names::is_qualified_name(kind.text());
    let known = ["Container", "PersistentVolumeClaim", "Pod"];
    if wrong.is_empty() && !kind.text().contains('/') && !known.contains(&kind.text()) {
        errors.push(kind.invalid("must be a standard limit type or fully qualified"));
    }
    errors.extend(kind.invalid_each(wrong));
}

/// The amounts that an item gives, and what Kubernetes calls them.
const AMOUNTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn item(item: &Field, errors: &mut Vec<FieldError>) {
    let kind = item.get("type").text();
    let mut all = BTreeSet::new();
    for key in AMOUNTS {
        let amounts = item.entries(key);
        if kind == "Pod" && key.starts_with("default") {
            if !amounts.is_empty() {
                errors.push(
                    item.get(key)
                        .forbidden("may not be specified when `type` is 'Pod'"),
                );
            }
            continue;
        }
        if key == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" && !has_storage(item) {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(item.get("limits").required(why));
        }
        for (name, amount) in amounts {
            all.insert(name);
            match kind {
                "Pod" | "Container" => resources::container_name(name, &amount, errors),
                _ => {
                    resources::resource_name(name, &amount, errors);
                }
            }
        }
    }
    for name in all {
        compare(item, name, errors);
    }
}

fn has_storage(item: &Field) -> bool {
    ["min", "max"]
        .iter()
        .any(|key| get(item.value, key).get("storage").is_some())
}

/// Each pair of amounts that must be in order: the lesser and the greater, with what they are called, and the path
/// and value that the error shows.
const ORDERED: [[&str; 6]; 6] = [
    ["min", "min", "max", "max", "min", "min"],
    [
        "min",
        "min",
        "defaultRequest",
        "default request",
        "defaultRequest",
        "defaultRequest",
    ],
    [
        "defaultRequest",
        "default request",
        "max",
        "max",
        "defaultRequest",
        "defaultRequest",
    ],
    [
        "defaultRequest",
        "default request",
        "default",
        "default limit",
        "defaultRequest",
        "defaultRequest",
    ],
    ["min", "min", "default", "default", "default", "min"],
    ["default", "default", "max", "max", "default", "max"],
];

fn compare(item: &Field, name: &str, errors: &mut Vec<FieldError>) {
    // What a Pod's item may not have has no part in this.
    let pod = item.get("type").text() == "Pod";
    let amount = |key: &str| {
        let value = get(item.value, key)
            .get(name)
            .filter(|_| !(pod && key.starts_with("default")))?;
        Quantity::from_json(value).ok()
    };
    let path = |key: &str| item.path_of(&format!("{key}[{name}]"));
    for [low, low_name, high, high_name, at, shown] in ORDERED {
        if let (Some(a), Some(b)) = (amount(low), amount(high))
            && a > b
        {
            let value = if shown == low { a } else { b };
            let why = format!("{low_name} value {a} is greater than {high_name} value {b}");
            errors.push(FieldError::invalid(path(at), value.to_string(), why));
        }
    }
    let Some(ratio) = amount("maxLimitRequestRatio") else {
        return;
    };
    let invalid = |why: String| FieldError::invalid(path("maxLimitRequestRatio"), ratio.to_string(), why);
    if ratio < Quantity::from_milli(1000) {
        errors.push(invalid(format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (amount("min"), amount("max")) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            errors.push(invalid(format!(
                "ratio {ratio} is greater than max/min = {most:.6}"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_bounds() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        (KIND.default)(&mut range);
        assert_eq!(range["spec"]["limits"][0]["default"], json!({"cpu": "2"}));
        assert_eq!(
            range["spec"]["limits"][0]["defaultRequest"],
            json!({"cpu": "2", "memory": "1Mi"})
        );
        range["spec"]["limits"][0]["min"]["cpu"] = json!("3");
        assert_eq!(
            validate(&range)[0].to_string(),
            "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2"
        );
    }
}
