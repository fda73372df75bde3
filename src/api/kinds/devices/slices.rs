//! ResourceSlice: devices that a driver offers.

use serde_json::{Value, json};

use super::{driver_name, effect, pool_name, qualified};
use crate::kind::{Column, Kind};
use crate::kinds::{cells, metadata};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, flag, text};

/// Most devices of one slice.
const DEVICES_MAX: usize = 128;
/// Most attributes and capacities of one device, together.
const PROPERTIES_MAX: usize = 32;
/// Most taints of one device.
const TAINTS_MAX: usize = 16;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    returns_deleted: true,
    storage_version_hash: "KsC072WgaEY=",
    prepare_create: |slice| metadata::set_generation(slice, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        for path in ["spec.driver", "spec.pool.name", "spec.nodeName"] {
            Field::at(new, path).immutable(old, &mut errors);
        }
        errors
    },
    field_names: &["spec.driver", "spec.nodeName"],
    fields: |slice| {
        vec![
            ("spec.driver", text(slice, "spec.driver").to_owned()),
            ("spec.nodeName", text(slice, "spec.nodeName").to_owned()),
        ]
    },
    columns: &[
        Column::NAME,
        Column::text("Node"),
        Column::text("Driver"),
        Column::text("Pool"),
        Column::AGE,
    ],
    row: |slice, now| {
        vec![
            cells::name(slice),
            json!(text(slice, "spec.nodeName")),
            json!(text(slice, "spec.driver")),
            json!(text(slice, "spec.pool.name")),
            cells::age(slice, now),
        ]
    },
    ..Kind::CLUSTER
};

fn validate(slice: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(slice, "spec");
    driver_name(&spec.get("driver"), &mut errors);
    let pool = spec.get("pool");
    pool_name(&pool.get("name"), &mut errors);
    let count = pool.get("resourceSliceCount");
    if count.int().unwrap_or(0) <= 0 {
        errors.push(FieldError::invalid(
            &count.path,
            count.int().unwrap_or(0),
            "must be greater than zero",
        ));
    }
    pool.get("generation").non_negative(&mut errors);
    let places = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    placed_at(&spec, &places, &mut errors);
    spec.at_most("devices", DEVICES_MAX, &mut errors);
    for device in spec.items("devices") {
        self::device(&device, flag(spec.value, "perDeviceNodeSelection"), &mut errors);
    }
    spec.unique("devices", "name", &mut errors);
    spec.unique("sharedCounters", "name", &mut errors);
    errors
}

/// Exactly one of the fields says on which nodes something is.
fn placed_at(holder: &Field, places: &[&str], errors: &mut Vec<FieldError>) {
    let said = |key: &&&str| holder.get(key).is_set() && *holder.get(key).value != json!(false);
    let named = places
        .iter()
        .map(|p| format!("`{p}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match places.iter().filter(said).count() {
        0 => errors.push(holder.required(&format!("exactly one of {named} is required"))),
        1 => {}
        _ => errors.push(FieldError::invalid(
            &holder.path,
            json!(null),
            format!("exactly one of {named} is required, but multiple fields are set"),
        )),
    }
    let node = holder.get("nodeName");
    if node.is_set() {
        errors.extend(node.invalid_each(names::is_dns_subdomain(node.text())));
    }
}

fn device(device: &Field, placed: bool, errors: &mut Vec<FieldError>) {
    let name = device.get("name");
    errors.extend(name.invalid_each(names::is_dns_label(name.text())));
    let (attributes, capacities) = (device.entries("attributes"), device.entries("capacity"));
    if attributes.len() + capacities.len() > PROPERTIES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {PROPERTIES_MAX}");
        let total = attributes.len() + capacities.len();
        errors.push(FieldError::invalid(&device.path, total, why));
    }
    for (key, value) in &attributes {
        let key = json!(key);
        qualified(&Field::new(&key, &value.path), false, errors);
        let set = value.value.as_object().map_or(0, serde_json::Map::len);
        match set {
            0 => errors.push(value.required("exactly one value must be specified")),
            1 => {}
            _ => errors.push(value.invalid("exactly one value must be specified")),
        }
    }
    for (key, value) in &capacities {
        let key = json!(key);
        qualified(&Field::new(&key, &value.path), false, errors);
    }
    device.at_most("taints", TAINTS_MAX, errors);
    for taint in device.items("taints") {
        errors.extend(
            taint
                .get("key")
                .invalid_each(names::is_qualified_name(taint.get("key").text())),
        );
        taint.get("effect").needed(errors);
        effect(&taint, errors);
    }
    if placed {
        placed_at(device, &["nodeName", "nodeSelector", "allNodes"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_somewhere() {
        let mut slice = json!({"spec": {"driver": "d.io", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1, "generation": 0},
            "devices": [{"name": "g0", "attributes": {"model": {"string": "x"}}}]}});
        assert_eq!(validate(&slice), []);
        slice["spec"]["allNodes"] = json!(true);
        let said = validate(&slice)[0].to_string();
        assert!(
            said.ends_with("is required, but multiple fields are set"),
            "{said}"
        );
    }
}
