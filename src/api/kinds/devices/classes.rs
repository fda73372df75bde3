//! DeviceClass: a sort of device that can be asked for by name.

use serde_json::Value;

use super::{CONFIGURATIONS_MAX, opaque, selectors};
use crate::kind::{Column, Kind};
use crate::kinds::{cells, metadata};
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    returns_deleted: true,
    storage_version_hash: "Yk2PTc1Ybxk=",
    prepare_create: |class| metadata::set_generation(class, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate,
    validate_update: |new, _| validate(new),
    columns: &[Column::NAME, Column::AGE],
    row: |class, now| vec![cells::name(class), cells::age(class, now)],
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(class, "spec");
    selectors(&spec, &mut errors);
    spec.at_most("config", CONFIGURATIONS_MAX, &mut errors);
    for config in spec.items("config") {
        opaque(&config, &mut errors);
    }
    let extended = spec.get("extendedResourceName");
    if extended.is_set() {
        errors.extend(extended.invalid_each(names::is_qualified_name(extended.text())));
    }
    errors
}
