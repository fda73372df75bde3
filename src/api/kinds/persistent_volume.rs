//! PersistentVolume: a piece of storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::persistent_volume_claim::{CLASS_INSTEAD, access_modes, class_name, class_or_unset, short_modes};
use super::pod::{self, sources};
use super::{cells, csi_driver, warnings};
use crate::kind::{Column, Kind, Subresource};
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, get, get_mut, has, list, remove, same, text};

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
    returns_deleted: true,
    short_names: &["pv"],
    subresources: &[Subresource::status("PersistentVolume")],
    storage_version_hash: "HN/zwEC+JgM=",
    default,
    prepare_create: |volume| crate::value::set(volume, "status", json!({"phase": "Pending"})),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        update(new, old, &mut errors);
        errors
    },
    warnings: |new, _| warnings_of(new),
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

/// Where the volume is, and what one may still add to that.
fn source(volume: &Value) -> Value {
    let mut spec = get(volume, "spec").clone();
    NO_SOURCE.iter().for_each(|key| remove(&mut spec, key));
    spec
}

fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    const SECRET: &str = "controllerExpandSecretRef";
    let (mut now, before) = (source(new), source(old));
    if !has(&before, &format!("csi.{SECRET}"))
        && let Some(csi) = get_mut(&mut now, "csi")
    {
        remove(csi, SECRET);
    }
    if !same(&now, &before) {
        let why = "spec.persistentvolumesource is immutable after creation\n";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    Field::new(get(new, "spec.volumeMode"), "volumeMode").unchanged(get(old, "spec.volumeMode"), errors);
    let (affinity, was) = (get(new, "spec.nodeAffinity"), get(old, "spec.nodeAffinity"));
    if !was.is_null() && !same(affinity, was) {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid("nodeAffinity", affinity.clone(), why));
    }
    let class = "spec.volumeAttributesClassName";
    if has(old, class) && !has(new, class) {
        errors.push(FieldError::forbidden(
            class,
            "update from non-nil value to nil is forbidden",
        ));
    }
}

fn warnings_of(volume: &Value) -> Vec<String> {
    const OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
    let mut said = Vec::new();
    let spec = Field::at(volume, "spec");
    warnings::annotation(volume, warnings::BETA_STORAGE_CLASS, CLASS_INSTEAD, &mut said);
    let instead = "deprecated since v1.31; use \"mountOptions\" attribute instead";
    warnings::annotation(volume, OPTIONS, instead, &mut said);
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if policy.text() == "Recycle" {
        said.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
             provisioning.",
            policy.path
        ));
    }
    for term in spec.get("nodeAffinity.required").items("nodeSelectorTerms") {
        warnings::node_term(&term, false, &mut said);
    }
    warnings::volume_source(&spec, &["gitRepo", "flocker", "quobyte"], &mut said);
    said
}

fn validate(volume: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(volume, "spec");
    spec.get("accessModes").needed(&mut errors);
    access_modes(&spec, &mut errors);
    capacity(&spec, &mut errors);
    spec.get("persistentVolumeReclaimPolicy")
        .one_of_if_set(&["Delete", "Recycle", "Retain"], &mut errors);
    let affinity = spec.get("nodeAffinity.required");
    if affinity.is_set() {
        pod::node_selector(&affinity, &mut errors);
    } else if spec.get("nodeAffinity").is_set() {
        errors.push(affinity.required("must specify required node constraints"));
    }
    where_it_is(&spec, affinity.is_set(), &mut errors);
    class_name(&spec.get("storageClassName"), &mut errors);
    spec.get("volumeMode")
        .one_of_if_set(&["Block", "Filesystem"], &mut errors);
    attributes_class(&spec, &mut errors);
    errors
}

/// A volume has room, and nothing else.
fn capacity(spec: &Field, errors: &mut Vec<FieldError>) {
    let capacity = spec.get("capacity");
    let given = spec.entries("capacity");
    capacity.needed(errors);
    if !matches!(given.as_slice(), [("storage", _)]) {
        errors.push(FieldError::not_supported(
            &capacity.path,
            capacity.value.clone(),
            &["storage"],
        ));
    }
    for (_, amount) in given {
        match Quantity::from_json(amount.value) {
            Ok(q) if q <= Quantity::ZERO => {
                if q.is_negative() {
                    let why = "must be a valid resource quantity";
                    errors.push(FieldError::invalid(&amount.path, q.value(), why));
                }
                errors.push(FieldError::invalid(
                    &amount.path,
                    q.to_string(),
                    "must be greater than zero",
                ));
            }
            Ok(_) => {}
            Err(why) => errors.push(amount.invalid(why.to_string())),
        }
    }
}

fn where_it_is(spec: &Field, placed: bool, errors: &mut Vec<FieldError>) {
    let mut all = sources::of(spec, &NO_SOURCE).into_iter();
    match all.next() {
        None => errors.push(spec.required("must specify a volume type")),
        Some("csi") => csi(&spec.get("csi"), errors),
        Some(key) => {
            sources::check(spec, key, errors);
            if key == "local" && !placed {
                let why = "Local volume requires node affinity";
                errors.push(spec.get("nodeAffinity").required(why));
            }
        }
    }
    errors.extend(all.map(|key| spec.get(key).forbidden("may not specify more than 1 volume type")));
    let policy = spec.get("persistentVolumeReclaimPolicy");
    let path = spec.get("hostPath.path").text();
    if policy.text() == "Recycle" && !path.is_empty() && path.trim_matches('/').is_empty() {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
}

fn csi(csi: &Field, errors: &mut Vec<FieldError>) {
    csi_driver::driver_name(&csi.get("driver"), errors);
    csi.get("volumeHandle").needed(errors);
    for key in [
        "controllerPublish",
        "controllerExpand",
        "nodePublish",
        "nodeExpand",
    ] {
        sources::secret(&csi.get(&format!("{key}SecretRef")), errors);
    }
}

fn attributes_class(spec: &Field, errors: &mut Vec<FieldError>) {
    let class = spec.get("volumeAttributesClassName");
    if !class.is_set() {
        return;
    }
    if class.is_blank() {
        errors.push(class.required("an empty string is disallowed"));
    }
    class_name(&class, errors);
    if !spec.get("csi").is_set() {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(spec.get("csi").required(why));
    }
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
