//! CSIDriver: what a volume driver wants of the cluster.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut, list, set, text};

/// The longest name of a driver, bytes.
const NAME_MAX: usize = 63;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    returns_deleted: true,
    unconditional_update: false,
    storage_version_hash: "hL6j/rwBV5w=",
    name_rule: names::path_segment,
    default,
    prepare_create: |driver| metadata::set_generation(driver, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        for key in ["attachRequired", "volumeLifecycleModes"] {
            Field::at(new, &format!("spec.{key}")).immutable(old, &mut errors);
        }
        errors
    },
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired"),
        Column::boolean("PodInfoOnMount"),
        Column::boolean("StorageCapacity"),
        Column::text("TokenRequests"),
        Column::boolean("RequiresRepublish"),
        Column::text("Modes"),
        Column::AGE,
    ],
    row,
    ..Kind::CLUSTER
};

fn default(driver: &mut Value) {
    let Some(spec) = get_mut(driver, "spec") else {
        return;
    };
    fill(spec, "attachRequired", true);
    for key in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        fill(spec, key, false);
    }
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if list(spec, "volumeLifecycleModes").is_empty() {
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}

/// What is wrong with the name of a driver (core `ValidateCSIDriverName`).
pub fn driver_name(name: &Field, errors: &mut Vec<FieldError>) {
    name.needed(errors);
    if name.text().len() > NAME_MAX {
        errors.push(FieldError::too_long(&name.path, NAME_MAX));
    }
    errors.extend(name.invalid_each(names::is_dns_subdomain(&name.text().to_lowercase())));
}

fn validate(driver: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = Field::new(get(driver, "metadata.name"), "name");
    if !name.is_blank() {
        driver_name(&name, &mut errors);
    }
    let spec = Field::at(driver, "spec");
    for key in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.get(key).is_set() {
            errors.push(spec.get(key).required(""));
        }
    }
    spec.get("fsGroupPolicy")
        .one_of_if_set(&["File", "None", "ReadWriteOnceWithFSType"], &mut errors);
    for mode in spec.items("volumeLifecycleModes") {
        mode.one_of(&["Ephemeral", "Persistent"], &mut errors);
    }
    spec.unique("tokenRequests", "audience", &mut errors);
    for request in spec.items("tokenRequests") {
        match request.get("expirationSeconds").int() {
            Some(n) if n < 600 => errors.push(
                request
                    .get("expirationSeconds")
                    .invalid("may not specify a duration less than 10 minutes"),
            ),
            Some(n) if n > 1 << 32 => errors.push(
                request
                    .get("expirationSeconds")
                    .invalid("may not specify a duration larger than 2^32 seconds"),
            ),
            _ => {}
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|n| n < 10) {
        errors.push(period.invalid("must be greater than or equal to 10"));
    }
    errors
}

fn row(driver: &Value, now: Timestamp) -> Vec<Value> {
    let flag = |key: &str| json!(get(driver, key).as_bool().unwrap_or(false));
    let tokens: Vec<&str> = list(driver, "spec.tokenRequests")
        .iter()
        .map(|r| text(r, "audience"))
        .collect();
    let tokens = if tokens.is_empty() {
        "<unset>".to_owned()
    } else {
        tokens.join(",")
    };
    let modes: Vec<&str> = list(driver, "spec.volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        cells::name(driver),
        flag("spec.attachRequired"),
        flag("spec.podInfoOnMount"),
        flag("spec.storageCapacity"),
        json!(tokens),
        flag("spec.requiresRepublish"),
        json!(cells::or_none(modes.join(","))),
        cells::age(driver, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_of_few_words_is_complete() {
        let mut driver = json!({"metadata": {"name": "a.io"}, "spec": {}});
        default(&mut driver);
        assert!(validate(&driver).is_empty());
        assert_eq!(driver["spec"]["fsGroupPolicy"], "ReadWriteOnceWithFSType");
        let mut new = driver.clone();
        new["spec"]["attachRequired"] = json!(false);
        assert_eq!(
            (KIND.validate_update)(&new, &driver)[0].to_string(),
            "spec.attachRequired: Invalid value: false: field is immutable"
        );
    }
}
