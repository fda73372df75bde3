//! LimitRange: bounds and defaults for what containers and pods of a namespace ask for.

use serde_json::{Value, json};

use crate::kind::Kind;
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
    for item in Field::at(range, "spec").items("limits") {
        item.get("type")
            .one_of(&["Container", "PersistentVolumeClaim", "Pod"], &mut errors);
        for (low, high) in [
            ("min", "max"),
            ("min", "default"),
            ("defaultRequest", "default"),
            ("default", "max"),
        ] {
            ordered(&item, low, high, &mut errors);
        }
    }
    errors
}

fn ordered(item: &Field, low: &str, high: &str, errors: &mut Vec<FieldError>) {
    for (name, amount) in item.entries(low) {
        let (Ok(a), Ok(b)) = (
            Quantity::from_json(amount.value),
            Quantity::from_json(get(item.value, high).get(name).unwrap_or(&Value::Null)),
        ) else {
            continue;
        };
        if a > b {
            errors.push(amount.invalid(format!("{low} value {a} is greater than {high} value {b}")));
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
