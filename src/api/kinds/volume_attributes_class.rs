//! VolumeAttributesClass: properties of volumes that can change while they are used.

use serde_json::{Value, json};

use super::{cells, csi_driver};
use crate::kind::{Column, Kind};
use crate::status::FieldError;
use crate::value::{Field, entries, get, same, text};

/// Most parameters of a class.
const PARAMETERS_MAX: usize = 512;
/// Most bytes of all parameters together.
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    returns_deleted: true,
    short_names: &["vac"],
    storage_version_hash: "tIjydgKBC5w=",
    validate,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        Field::at(new, "driverName").immutable(old, &mut errors);
        if !same(get(new, "parameters"), get(old, "parameters")) {
            errors.push(FieldError::forbidden(
                "parameters",
                "updates to parameters are forbidden.",
            ));
        }
        errors
    },
    columns: &[Column::NAME, Column::text("DriverName"), Column::AGE],
    row: |class, now| {
        vec![
            cells::name(class),
            json!(text(class, "driverName")),
            cells::age(class, now),
        ]
    },
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    csi_driver::driver_name(&Field::at(class, "driverName"), &mut errors);
    let at = Field::at(class, "parameters");
    let count = entries(class, "parameters").count();
    let size: usize = entries(class, "parameters")
        .map(|(key, value)| key.len() + value.as_str().unwrap_or("").len())
        .sum();
    if count == 0 {
        errors.push(at.required("must contain at least one key/value pair"));
    }
    if count > PARAMETERS_MAX {
        errors.push(FieldError::too_long(&at.path, PARAMETERS_MAX));
    }
    if size > PARAMETER_BYTES_MAX {
        errors.push(FieldError::too_long(&at.path, PARAMETER_BYTES_MAX));
    }
    errors
}
