//! PersistentVolume: a piece of storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use super::persistent_volume_claim::{access_modes, class_or_unset, short_modes};
use crate::kind::{Column, Kind, Subresource};
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, get, get_mut, has, list, same, text};

/// Fields of the spec that are no source of storage.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    subresources: &[Subresource::status("PersistentVolume")],
    storage_version_hash: "HN/zwEC+JgM=",
    default,
    prepare_create: |volume| crate::value::set(volume, "status", json!({"phase": "Pending"})),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        if !same(&json!(sources(new)), &json!(sources(old))) {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
        }
        Field::at(new, "spec.volumeMode").immutable(old, &mut errors);
        errors
    },
    reset_fields_status: &["spec"],
    columns: &[
        Column::NAME,
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("Reclaim Policy"),
        Column::text("Status"),
        Column::text("Claim"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::text("Reason"),
        Column::AGE,
        Column::text("VolumeMode").wide(),
    ],
    row,
    ..Kind::CLUSTER_WITH_STATUS
};

fn default(volume: &mut Value) {
    fill(volume, "status", json!({}));
    if let Some(status) = get_mut(volume, "status") {
        fill_text(status, "phase", "Pending");
    }
    let Some(spec) = get_mut(volume, "spec") else {
        return;
    };
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill_text(spec, "volumeMode", "Filesystem");
    if let Some(path) = get_mut(spec, "hostPath") {
        fill(path, "type", "");
    }
}

fn sources(volume: &Value) -> Vec<(&String, &Value)> {
    let all = get(volume, "spec").as_object().into_iter().flatten();
    all.filter(|(key, value)| !NO_SOURCE.contains(&key.as_str()) && !value.is_null())
        .collect()
}

fn validate(volume: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(volume, "spec");
    access_modes(&spec, &mut errors);
    let storage = spec.get("capacity.storage");
    if spec.get("capacity").is_blank() {
        errors.push(spec.get("capacity").required(""));
    } else if Quantity::from_json(storage.value).map_or(true, |q| q <= Quantity::ZERO) {
        errors.push(FieldError::invalid(
            "spec.capacity[storage]",
            storage.value.clone(),
            "must be greater than zero",
        ));
    }
    spec.get("persistentVolumeReclaimPolicy")
        .one_of_if_set(&["Delete", "Recycle", "Retain"], &mut errors);
    spec.get("volumeMode")
        .one_of_if_set(&["Block", "Filesystem"], &mut errors);
    match sources(volume).as_slice() {
        [] => errors.push(spec.required("must specify a volume type")),
        [_] => {}
        [_, more @ ..] => errors.extend(
            more.iter()
                .map(|(key, _)| spec.get(key).forbidden("may not specify more than 1 volume type")),
        ),
    }
    errors
}

fn row(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match text(volume, "spec.claimRef.name") {
        "" => String::new(),
        name => format!("{}/{name}", text(volume, "spec.claimRef.namespace")),
    };
    let deleting = has(volume, "metadata.deletionTimestamp");
    vec![
        cells::name(volume),
        json!(text(volume, "spec.capacity.storage")),
        json!(short_modes(list(volume, "spec.accessModes"))),
        json!(text(volume, "spec.persistentVolumeReclaimPolicy")),
        json!(if deleting {
            "Terminating"
        } else {
            text(volume, "status.phase")
        }),
        json!(claim),
        json!(text(volume, "spec.storageClassName")),
        json!(class_or_unset(text(volume, "spec.volumeAttributesClassName"))),
        json!(text(volume, "status.reason")),
        cells::age(volume, now),
        json!(class_or_unset(text(volume, "spec.volumeMode"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_one_source() {
        let mut volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
        (KIND.default)(&mut volume);
        assert_eq!(
            validate(&volume)[0].to_string(),
            "spec: Required value: must specify a volume type"
        );
        volume["spec"]["hostPath"] = json!({"path": "/a"});
        assert!(validate(&volume).is_empty());
        volume["spec"]["nfs"] = json!({});
        assert_eq!(validate(&volume).len(), 1);
    }
}
