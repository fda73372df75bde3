//! ConfigMap: settings that are no secret.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, entries, flag, get, same};

/// Most bytes of all values of a ConfigMap or Secret together.
pub const DATA_MAX: usize = 1024 * 1024;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    storage_version_hash: "qFsyl6wFWjQ=",
    validate,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        immutable(new, old, &["data", "binaryData"], &mut errors);
        errors.extend(validate(new));
        errors
    },
    columns: &[Column::NAME, Column::text("Data"), Column::AGE],
    row,
    ..Kind::NAMESPACED
};

fn validate(map: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::new(map, "");
    let mut size = 0;
    for (key, value) in root.entries("data") {
        errors.extend(key_errors(&value, key));
        if get(map, "binaryData").get(key).is_some() {
            errors.push(FieldError::invalid(
                &value.path,
                key,
                "duplicate of key present in binaryData",
            ));
        }
        size += value.text().len();
    }
    for (key, value) in root.entries("binaryData") {
        errors.extend(key_errors(&value, key));
        size += value.text().len() / 4 * 3;
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long("", DATA_MAX));
    }
    errors
}

/// What is wrong with a key of `data`.
pub fn key_errors(value: &Field, key: &str) -> Vec<FieldError> {
    names::is_config_key(key)
        .into_iter()
        .map(|why| FieldError::invalid(&value.path, key, why))
        .collect()
}

/// Once `immutable` is set, it stays, and so does the data.
pub fn immutable(new: &Value, old: &Value, data: &[&str], errors: &mut Vec<FieldError>) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", WHY));
    }
    for key in data {
        if !same(get(new, key), get(old, key)) {
            errors.push(FieldError::forbidden(*key, WHY));
        }
    }
}

fn row(map: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(map, "data").count() + metadata::count(map, "binaryData");
    vec![cells::name(map), json!(count), cells::age(map, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        let map = json!({"data": {"a/b": "x", "ok": "y", "both": ""}, "binaryData": {"both": ""}});
        let texts: Vec<String> = validate(&map).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(
            texts[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must consist of")
        );
        assert_eq!(
            texts[1],
            "data[both]: Invalid value: \"both\": duplicate of key present in binaryData"
        );
        assert_eq!(row(&map, Timestamp::UNIX_EPOCH)[1], 4);
    }

    #[test]
    fn immutable_maps_stay() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let new = json!({"data": {"a": "2"}});
        let texts: Vec<String> = (KIND.validate_update)(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }
}
