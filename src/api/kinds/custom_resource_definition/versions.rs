//! Rules for the versions of a definition. What all of them say alike, Kubernetes keeps once for all, so errors about it
//! have paths such as `spec.validation`; what they say each for itself is at its own place.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::custom;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, get, has, list, same, text};

/// The longest text about a version that is deprecated, bytes.
const WARNING_MAX: usize = 256;
/// The most fields of a version by which its objects may be selected.
const SELECTABLE_MAX: usize = 8;

/// What a version may say, and where it is kept when all say the same.
const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// Rules for each version, and for all together.
pub fn check(spec: &Field, errors: &mut Vec<FieldError>) {
    let versions = spec.items("versions");
    for version in &versions {
        let schema = version.get("schema.openAPIV3Schema");
        if !schema.is_set() {
            errors.push(schema.required(""));
        }
    }
    for version in &versions {
        let name = version.get("name");
        let wrong = names::is_dns1035_label(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        }
        deprecation(version, errors);
        let own = |key: &str| !is_shared(spec.value, key);
        let status = has(version.value, "subresources.status");
        parts(status, own, |key| version.get(key), errors);
    }
    let all = spec.get("versions");
    let unique: BTreeSet<&str> = versions
        .iter()
        .map(|version| text(version.value, "name"))
        .collect();
    if unique.len() != versions.len() {
        errors.push(all.invalid("must contain unique version names"));
    }
    let stored = versions.iter().filter(|version| version.get("storage").flag());
    if stored.count() != 1 {
        errors.push(all.invalid("must have exactly one version marked as storage version"));
    }
}

/// Rules for what all versions say alike.
pub fn common(spec: &Field, errors: &mut Vec<FieldError>) {
    let Some(first) = list(spec.value, "versions").first() else {
        return;
    };
    let status = list(spec.value, "versions")
        .iter()
        .any(|version| has(version, "subresources.status"));
    let shown = |key: &str| {
        SHARED
            .iter()
            .find(|(own, _)| *own == key)
            .map_or("", |(_, shown)| shown)
    };
    let of = |key: &str| Field::new(get(first, key), spec.path_of(shown(key)));
    parts(status, |key| is_shared(spec.value, key), of, errors);
}

/// Whether all versions say the same there.
fn is_shared(spec: &Value, key: &str) -> bool {
    let mut said = list(spec, "versions").iter().map(|version| get(version, key));
    let Some(first) = said.next() else { return false };
    said.all(|other| same(first, other))
}

/// Rules for those parts of a version that `chosen` says; `of` finds them.
fn parts<'v>(
    status: bool,
    chosen: impl Fn(&str) -> bool,
    of: impl Fn(&str) -> Field<'v>,
    errors: &mut Vec<FieldError>,
) {
    let schema = of("schema").get("openAPIV3Schema");
    if chosen("schema") && schema.is_set() {
        errors.extend(custom::validate_schema(&schema, status));
    }
    if chosen("subresources") {
        scale(&of("subresources"), errors);
    }
    if chosen("additionalPrinterColumns") {
        let columns = of("additionalPrinterColumns");
        for (place, column) in columns.value.as_array().into_iter().flatten().enumerate() {
            let column = Field::new(column, format!("{}[{place}]", columns.path));
            custom::validate_column(&column, errors);
        }
    }
    if chosen("selectableFields") && schema.is_set() {
        selectable(&of("selectableFields"), schema.value, errors);
    }
}

fn deprecation(version: &Field, errors: &mut Vec<FieldError>) {
    let warning = version.get("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.get("deprecated").flag() {
        errors.push(warning.invalid("can only be set for deprecated versions"));
        return;
    }
    let said = warning.text();
    if said.len() > WARNING_MAX {
        errors.push(warning.invalid(format!("must be <= {WARNING_MAX} characters long")));
    }
    if said.is_empty() {
        errors.push(warning.invalid("must not be an empty string"));
    }
    // The only blank that counts as printable is the plain one.
    let odd = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((place, _)) = said.char_indices().find(|(_, c)| odd(*c)) {
        errors.push(warning.invalid(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {place}"
        )));
    }
}

fn scale(subresources: &Field, errors: &mut Vec<FieldError>) {
    let scale = subresources.get("scale");
    if !scale.is_set() {
        return;
    }
    let one = |key: &str, below: &[&str], shown: &str, errors: &mut Vec<FieldError>| {
        let path = scale.get(key);
        if let Some(why) = custom::is_simple_path(path.text()) {
            errors.push(path.invalid(why));
        } else if !below.iter().any(|start| path.text().starts_with(start)) {
            errors.push(path.invalid(format!("should be a json path under {shown}")));
        }
    };
    for (key, below) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        if scale.get(key).needed(errors) {
            one(key, &[&format!("{below}.")], below, errors);
        }
    }
    if !scale.get("labelSelectorPath").is_blank() {
        let either = [".spec.", ".status."];
        one("labelSelectorPath", &either, "either .spec or .status", errors);
    }
}

fn selectable(fields: &Field, schema: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (place, field) in fields.value.as_array().into_iter().flatten().enumerate() {
        let path = Field::new(
            get(field, "jsonPath"),
            format!("{}[{place}].jsonPath", fields.path),
        );
        if !path.needed(errors) {
            continue;
        }
        let found = match custom::member(path.text(), schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if path.text() == ".metadata" || path.text().starts_with(".metadata.") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        if !["string", "boolean", "integer"].contains(&text(found, "type")) {
            errors.push(path.invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if !seen.insert(path.text()) {
            errors.push(path.duplicate());
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(fields.too_many(seen.len(), SELECTABLE_MAX));
    }
}
