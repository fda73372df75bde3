//! PodTemplate: a description of pods, kept for others to use.

use serde_json::{Value, json};

use super::{cells, metadata, pod};
use crate::kind::{Column, Kind};
use crate::status::FieldError;
use crate::value::{Field, get};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    returns_deleted: true,
    storage_version_hash: "LIXB2x4IFpk=",
    default: pod::default_template,
    prepare_create: |template| metadata::set_generation(template, 1),
    prepare_update: |new, old| {
        let changed = !crate::value::same(get(new, "template"), get(old, "template"));
        metadata::bump_generation(new, old, changed);
    },
    validate,
    validate_update: |new, _| validate(new),
    warnings: |new, _| {
        let mut said = Vec::new();
        pod::template_warnings(&Field::at(new, "template"), &mut said);
        said
    },
    columns: &[
        Column::NAME,
        Column::text("Containers"),
        Column::text("Images"),
        Column::text("Pod Labels"),
    ],
    row: |template, _| {
        let (names, images) = cells::containers_and_images(template, "template.spec");
        let labels = cells::labels(get(template, "template.metadata.labels"));
        vec![cells::name(template), json!(names), json!(images), json!(labels)]
    },
    ..Kind::NAMESPACED
};

fn validate(template: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    pod::validate_template(&Field::at(template, "template"), &mut errors);
    errors
}
