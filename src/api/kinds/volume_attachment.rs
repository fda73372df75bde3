//! VolumeAttachment: the wish to have a volume attached to a node, and what came of it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, csi_driver};
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, flag, keep, remove, text};

/// The longest text that a driver may leave in a status, bytes.
const MESSAGE_MAX: usize = 1024;
/// The most that a driver may leave in `status.attachmentMetadata`, bytes.
const METADATA_MAX: usize = 256 * 1024;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    returns_deleted: true,
    subresources: &[Subresource::status("VolumeAttachment")],
    unconditional_update: false,
    storage_version_hash: "tJx/ezt6UDU=",
    prepare_create: |attachment| remove(attachment, "status"),
    prepare_update: |new, old| keep(new, old, "status"),
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "spec").immutable(old, &mut errors);
        errors
    },
    validate_status: |new, _| status(new),
    columns: &[
        Column::NAME,
        Column::text("Attacher").name_format(),
        Column::text("PV"),
        Column::text("Node"),
        Column::boolean("Attached"),
        Column::AGE,
    ],
    row,
    ..Kind::CLUSTER_WITH_STATUS
};

fn validate(attachment: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(attachment, "spec");
    csi_driver::driver_name(&spec.get("attacher"), &mut errors);
    let (name, inline) = (
        spec.get("source.persistentVolumeName"),
        spec.get("source.inlineVolumeSpec"),
    );
    match (name.is_set(), inline.is_set()) {
        (false, false) => {
            errors.push(FieldError::required(
                "spec.source",
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ));
        }
        (true, true) => {
            errors.push(FieldError::forbidden(
                "spec.source",
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ));
        }
        (true, false) => {
            errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
        }
        (false, true) => {}
    }
    let node = spec.get("nodeName");
    errors.extend(node.invalid_each(names::is_dns_subdomain(node.text())));
    errors
}

fn status(attachment: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(attachment, "status");
    for key in ["attachError", "detachError"] {
        let message = status.get(key).get("message");
        if message.text().len() > MESSAGE_MAX {
            errors.push(FieldError::too_long(&message.path, MESSAGE_MAX));
        }
    }
    let entries = status.entries("attachmentMetadata");
    let size: usize = entries
        .iter()
        .map(|(key, value)| key.len() + value.text().len())
        .sum();
    if size > METADATA_MAX {
        errors.push(FieldError::too_long("status.attachmentMetadata", METADATA_MAX));
    }
    errors
}

fn row(attachment: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(attachment),
        json!(text(attachment, "spec.attacher")),
        json!(text(attachment, "spec.source.persistentVolumeName")),
        json!(text(attachment, "spec.nodeName")),
        json!(flag(attachment, "status.attached")),
        cells::age(attachment, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_and_never_another() {
        let old =
            json!({"spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert!(validate(&old).is_empty());
        let mut new = old.clone();
        new["spec"]["nodeName"] = json!("m");
        let said = (KIND.validate_update)(&new, &old)[0].to_string();
        assert!(said.starts_with("spec: Invalid value: ") && said.ends_with("field is immutable"));
    }
}
