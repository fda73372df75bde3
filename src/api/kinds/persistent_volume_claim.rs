//! PersistentVolumeClaim: asks for storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::quantity::Quantity;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, get, get_mut, has, list, remove, same, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: &[Subresource::status("PersistentVolumeClaim")],
    storage_version_hash: "QWTyNDq0dC4=",
    default,
    prepare_create: |claim| crate::value::set(claim, "status", json!({"phase": "Pending"})),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Volume"),
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::AGE,
        Column::text("VolumeMode").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

/// Defaults of a claim, or of a claim's template.
pub fn default(claim: &mut Value) {
    if let Some(spec) = get_mut(claim, "spec") {
        fill_text(spec, "volumeMode", "Filesystem");
    }
    fill(claim, "status", json!({}));
    if let Some(status) = get_mut(claim, "status") {
        fill_text(status, "phase", "Pending");
    }
}

/// Rules for access modes.
pub fn access_modes(spec: &Field, errors: &mut Vec<FieldError>) {
    if spec.get("accessModes").is_blank() {
        errors.push(
            spec.get("accessModes")
                .required("at least 1 access mode is required"),
        );
    }
    for mode in spec.items("accessModes") {
        let at = Field::new(mode.value, spec.path_of("accessModes"));
        at.one_of(
            &[
                "ReadOnlyMany",
                "ReadWriteMany",
                "ReadWriteOnce",
                "ReadWriteOncePod",
            ],
            errors,
        );
    }
}

fn validate(claim: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(claim, "spec");
    access_modes(&spec, &mut errors);
    let storage = spec.get("resources.requests.storage");
    match Quantity::from_json(storage.value) {
        _ if !storage.is_set() => errors.push(FieldError::required("spec.resources[storage]", "")),
        Ok(q) if q <= Quantity::ZERO => {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid("spec.resources[storage]", q.to_string(), why));
        }
        Ok(_) => {}
        Err(why) => errors.push(storage.invalid(why.to_string())),
    }
    spec.get("volumeMode")
        .one_of_if_set(&["Block", "Filesystem"], &mut errors);
    selector::validate(&spec.get("selector"), &mut errors);
    errors
}

/// A bound claim may only ask for more; before, its volume may be set.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    let bound = text(old, "status.phase") == "Bound";
    let fixed = |claim: &Value| {
        let mut spec = get(claim, "spec").clone();
        if let Some(requests) = get_mut(&mut spec, "resources.requests").filter(|_| bound) {
            remove(requests, "storage");
        }
        remove(&mut spec, "volumeAttributesClassName");
        if text(old, "spec.volumeName").is_empty() {
            remove(&mut spec, "volumeName");
        }
        if !has(old, "spec.storageClassName") {
            remove(&mut spec, "storageClassName");
        }
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n",
        ));
    }
    let amount = |claim: &Value| {
        Quantity::from_json(get(claim, "spec.resources.requests.storage")).unwrap_or_default()
    };
    let shrunk =
        amount(new) < amount(&json!({"spec": {"resources": {"requests": get(old, "status.capacity")}}}));
    if bound && shrunk {
        let path = "spec.resources.requests.storage";
        errors.push(FieldError::forbidden(
            path,
            "field can not be less than status.capacity",
        ));
    }
    errors
}

/// Access modes as kubectl prints them, such as `RWO,ROX`.
pub fn short_modes(modes: &[Value]) -> String {
    let order = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let held = order.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode));
    held.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// A class as kubectl prints it.
pub fn class_or_unset(name: &str) -> String {
    if name.is_empty() {
        "<unset>".to_owned()
    } else {
        name.to_owned()
    }
}

fn row(claim: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(claim, "spec.volumeName").is_empty();
    let deleting = has(claim, "metadata.deletionTimestamp");
    let phase = if deleting {
        "Terminating"
    } else {
        text(claim, "status.phase")
    };
    let mode = match text(claim, "spec.volumeMode") {
        "" => "<unset>",
        mode => mode,
    };
    vec![
        cells::name(claim),
        json!(phase),
        json!(text(claim, "spec.volumeName")),
        json!(if bound {
            text(claim, "status.capacity.storage")
        } else {
            ""
        }),
        json!(if bound {
            short_modes(list(claim, "status.accessModes"))
        } else {
            String::new()
        }),
        json!(text(claim, "spec.storageClassName")),
        json!(class_or_unset(text(claim, "spec.volumeAttributesClassName"))),
        cells::age(claim, now),
        json!(mode),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_say_how_much_and_how() {
        let texts: Vec<String> = validate(&json!({"spec": {}}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value"
            ]
        );
        assert_eq!(
            short_modes(&[json!("ReadWriteMany"), json!("ReadWriteOnce")]),
            "RWO,RWX"
        );
    }

    #[test]
    fn bound_claims_only_grow() {
        let claim = |size: &str| {
            json!({"spec": {"volumeName": "v", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
        };
        assert!(validate_update(&claim("2Gi"), &claim("1Gi")).is_empty());
        assert_eq!(
            validate_update(&claim("1Mi"), &claim("1Gi"))[0].to_string(),
            "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
        );
    }
}
