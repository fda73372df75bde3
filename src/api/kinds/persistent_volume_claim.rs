//! PersistentVolumeClaim: asks for storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, warnings};
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::quantity::Quantity;
use crate::selector;
use crate::snapshots;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, get, get_mut, has, list, remove, same, set, text};

/// What to use instead of the annotation for the class.
pub const CLASS_INSTEAD: &str = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    returns_deleted: true,
    short_names: &["pvc"],
    subresources: &[Subresource::status("PersistentVolumeClaim")],
    storage_version_hash: "QWTyNDq0dC4=",
    default,
    prepare_create: |claim| {
        set(claim, "status", json!({"phase": "Pending"}));
        if let Some(spec) = get_mut(claim, "spec") {
            name_source_twice(spec);
        }
    },
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update,
    warnings: |new, _| {
        let mut said = Vec::new();
        warnings::annotation(new, warnings::BETA_STORAGE_CLASS, CLASS_INSTEAD, &mut said);
        warnings::claim_spec(&Field::at(new, "spec"), &mut said);
        said
    },
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

/// What a volume is filled with is said in two fields, the older of which was for claims and snapshots alone and
/// lost anything else. Readers look at either, so that both say the same.
fn name_source_twice(spec: &mut Value) {
    let (older, newer) = (
        get(spec, "dataSource").clone(),
        get(spec, "dataSourceRef").clone(),
    );
    match (older.is_null(), newer.is_null()) {
        (false, true) if is_claim_or_snapshot(&older) => set(spec, "dataSourceRef", older),
        (false, true) => remove(spec, "dataSource"),
        (true, false) if text(&newer, "namespace").is_empty() => {
            let mut older = newer;
            remove(&mut older, "namespace");
            set(spec, "dataSource", older);
        }
        _ => {}
    }
}

fn is_claim_or_snapshot(source: &Value) -> bool {
    let named = (text(source, "apiGroup"), text(source, "kind"));
    named == ("", "PersistentVolumeClaim") || named == (snapshots::GROUP, snapshots::SNAPSHOT)
}

/// Rules for access modes that are given.
pub fn access_modes(spec: &Field, errors: &mut Vec<FieldError>) {
    const ALONE: &str = "ReadWriteOncePod";
    const KNOWN: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", ALONE];
    let at = spec.get("accessModes");
    let modes = spec.items("accessModes");
    for mode in modes.iter().filter(|mode| !KNOWN.contains(&mode.text())) {
        errors.push(FieldError::not_supported(&at.path, mode.text(), &KNOWN));
    }
    let mut known = modes.iter().map(Field::text).filter(|mode| KNOWN.contains(mode));
    if known.clone().any(|mode| mode == ALONE) && known.any(|mode| mode != ALONE) {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

fn validate(claim: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec(&Field::at(claim, "spec"), &mut errors);
    errors
}

/// Rules for the spec of a claim, or of the template of one.
pub fn spec(spec: &Field, errors: &mut Vec<FieldError>) {
    let modes = spec.get("accessModes");
    if modes.is_blank() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    selector::validate(&spec.get("selector"), errors);
    access_modes(spec, errors);
    let storage = spec.get("resources.requests.storage");
    let path = spec.path_of("resources[storage]");
    match Quantity::from_json(storage.value) {
        _ if !storage.is_set() => errors.push(FieldError::required(path, "")),
        Ok(q) if q <= Quantity::ZERO => {
            errors.push(FieldError::invalid(
                path,
                q.to_string(),
                "must be greater than zero",
            ));
        }
        Ok(_) => {}
        Err(why) => errors.push(storage.invalid(why.to_string())),
    }
    class_name(&spec.get("storageClassName"), errors);
    spec.get("volumeMode")
        .one_of_if_set(&["Block", "Filesystem"], errors);
    data_sources(spec, errors);
    class_name(&spec.get("volumeAttributesClassName"), errors);
}

/// Rules for the name of a class, if there is one.
pub fn class_name(name: &Field, errors: &mut Vec<FieldError>) {
    if !name.is_blank() {
        errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
    }
}

/// Rules for what a volume is filled with, in the older and the newer form.
fn data_sources(spec: &Field, errors: &mut Vec<FieldError>) {
    let (older, newer) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for source in [&older, &newer].into_iter().filter(|source| source.is_set()) {
        data_source(source, errors);
    }
    if !older.is_set() || !newer.is_set() {
        return;
    }
    let elsewhere = !newer.get("namespace").is_blank();
    let alike = ["apiGroup", "kind", "name"]
        .iter()
        .all(|key| same(older.get(key).value, newer.get(key).value));
    let why = match (elsewhere, alike) {
        (true, _) => "may not be specified when dataSourceRef.namespace is specified",
        (false, true) => return,
        (false, false) => "must match dataSourceRef",
    };
    // Kubernetes shows its own path object here, which has nothing to show.
    errors.push(FieldError::invalid(&spec.path, json!({}), why));
}

fn data_source(source: &Field, errors: &mut Vec<FieldError>) {
    let (group, kind) = (source.get("apiGroup"), source.get("kind"));
    source.get("name").needed(errors);
    kind.needed(errors);
    if !group.is_blank() {
        errors.extend(group.invalid_each(names::is_dns_subdomain(group.text())));
    } else if kind.text() != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(&source.path, kind.text(), why));
    }
    let namespace = source.get("namespace");
    if !namespace.is_blank() {
        errors.extend(namespace.invalid_each(names::is_dns_label(namespace.text())));
    }
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
        if bound && has(new, "spec.volumeAttributesClassName") {
            remove(&mut spec, "volumeAttributesClassName");
        }
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
    shrunk(new, old, &mut errors);
    Field::new(get(new, "spec.volumeMode"), "volumeMode").unchanged(get(old, "spec.volumeMode"), &mut errors);
    let class = "spec.volumeAttributesClassName";
    if has(old, class) {
        let why = match get(new, class) {
            Value::Null => "update from non-nil value to nil is forbidden",
            Value::String(name) if name.is_empty() => {
                "update from non-nil value to an empty string is forbidden"
            }
            _ => return errors,
        };
        errors.push(FieldError::forbidden(class, why));
    }
    errors
}

/// A claim that asks for less than before may not ask for less than it has.
fn shrunk(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.resources.requests.storage";
    let amount = |value: &Value| Quantity::from_json(value).unwrap_or_default();
    let (now, before) = (amount(get(new, path)), amount(get(old, path)));
    if now < before && now <= amount(get(old, "status.capacity.storage")) {
        errors.push(FieldError::forbidden(
            path,
            "field can not be less than status.capacity",
        ));
    }
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
    fn a_source_is_named_in_both_fields() {
        let made = |spec: Value| {
            let mut claim = json!({"spec": spec});
            (KIND.prepare_create)(&mut claim);
            (
                claim["spec"]["dataSource"].clone(),
                claim["spec"]["dataSourceRef"].clone(),
            )
        };
        let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "c"});
        let other = json!({"apiGroup": "a.io", "kind": "Thing", "name": "t"});
        for source in [&snapshot, &claim] {
            let both = (source.clone(), source.clone());
            assert_eq!(made(json!({"dataSource": source})), both);
            assert_eq!(made(json!({"dataSourceRef": source})), both);
        }
        // What the older field was never for is lost in it, and kept in the newer one.
        assert_eq!(made(json!({"dataSource": other})), (Value::Null, Value::Null));
        assert_eq!(
            made(json!({"dataSourceRef": other})),
            (other.clone(), other.clone())
        );
        let mut elsewhere = snapshot;
        elsewhere["namespace"] = "b".into();
        assert_eq!(
            made(json!({"dataSourceRef": elsewhere})),
            (Value::Null, elsewhere)
        );
        assert_eq!(made(json!({})), (Value::Null, Value::Null));
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
