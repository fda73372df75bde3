//! A value against its structural schema, in the words of Kubernetes' OpenAPI validation.
//!
//! What was there before a change and is still the same is not looked at again: an object that was valid under
//! an older schema can still be changed elsewhere (ratcheting).

use serde_json::Value;

use super::patterns::Patterns;
use crate::formats;
use crate::status::{FieldError, FieldErrorKind};
use crate::value::{flag, get, list, text};

/// What is wrong with an object of a custom kind.
pub fn object(object: &Value, old: Option<&Value>, schema: &Value, patterns: &Patterns) -> Vec<FieldError> {
    let mut checker = Checker {
        patterns,
        errors: Vec::new(),
    };
    checker.value("", object, old, schema, true);
    checker.errors
}

/// What is wrong with the status of an object of a custom kind; the rest was judged when it was written.
pub fn status(object: &Value, old: Option<&Value>, schema: &Value, patterns: &Patterns) -> Vec<FieldError> {
    let mut checker = Checker {
        patterns,
        errors: Vec::new(),
    };
    if let (Some(status), Some(of)) = (object.get("status"), get(schema, "properties").get("status")) {
        let old = old.and_then(|old| old.get("status"));
        checker.value("status", status, old, of, false);
    }
    checker.errors
}

/// What is wrong with a value at a path, such as a default.
pub fn value(path: &str, value: &Value, schema: &Value, patterns: &Patterns) -> Vec<FieldError> {
    let mut checker = Checker {
        patterns,
        errors: Vec::new(),
    };
    checker.value(path, value, None, schema, false);
    checker.errors
}

struct Checker<'s> {
    patterns: &'s Patterns,
    errors: Vec<FieldError>,
}

/// The JSON type of a value as errors name it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The old item that an item of a list was: by its keys where it has keys.
pub fn old_item<'v>(item: &Value, old: Option<&'v Value>, schema: &Value) -> Option<&'v Value> {
    if text(schema, "x-kubernetes-list-type") != "map" {
        return None;
    }
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let same = |old: &&Value| {
        keys.iter()
            .filter_map(Value::as_str)
            .all(|key| get(old, key) == get(item, key))
    };
    old?.as_array()?.iter().find(same)
}

impl Checker<'_> {
    fn invalid(&mut self, path: &str, value: impl Into<Value>, why: impl Into<String>) {
        let path = if path.is_empty() { "<nil>" } else { path };
        self.errors.push(FieldError::invalid(path, value, why));
    }

    fn value(&mut self, path: &str, value: &Value, old: Option<&Value>, schema: &Value, resource: bool) {
        if old.is_some_and(|old| old == value) {
            return;
        }
        if value.is_null() && flag(schema, "nullable") {
            return;
        }
        if !self.fits_type(path, value, schema) {
            return;
        }
        self.in_enum(path, value, schema);
        match value {
            Value::String(said) => self.string(path, said, schema),
            Value::Number(number) => self.number(path, number, schema),
            Value::Array(items) => self.array(path, items, old, schema),
            Value::Object(_) => self.members(path, value, old, schema, resource),
            _ => {}
        }
        self.combined(path, value, schema);
    }

    fn fits_type(&mut self, path: &str, value: &Value, schema: &Value) -> bool {
        let found = type_of(value);
        if flag(schema, "x-kubernetes-int-or-string") {
            if matches!(found, "integer" | "string") {
                return true;
            }
            self.wrong_type(path, "integer,string", found);
            return false;
        }
        let wanted = text(schema, "type");
        let whole = value.as_f64().is_some_and(|n| n.fract() == 0.0);
        let fits = wanted.is_empty()
            || wanted == found
            || (wanted == "number" && found == "integer")
            || (wanted == "integer" && found == "number" && whole);
        if !fits {
            self.wrong_type(path, wanted, found);
        }
        fits
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, found: &str) {
        self.errors.push(FieldError {
            kind: FieldErrorKind::TypeInvalid,
            path: if path.is_empty() {
                "<nil>".to_owned()
            } else {
                path.to_owned()
            },
            value: Some(found.into()),
            detail: format!("{path} in body must be of type {wanted}: {found:?}"),
        });
    }

    fn in_enum(&mut self, path: &str, value: &Value, schema: &Value) {
        let known = list(schema, "enum");
        if known.is_empty() || known.contains(value) {
            return;
        }
        let shown: Vec<String> = known
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        self.errors
            .push(FieldError::not_supported(path, value.clone(), &shown));
    }

    fn string(&mut self, path: &str, said: &str, schema: &Value) {
        let length = said.chars().count() as u64;
        if let Some(max) = get(schema, "maxLength").as_u64().filter(|max| length > *max) {
            self.errors.push(FieldError::too_long(path, max as usize));
        }
        if let Some(min) = get(schema, "minLength").as_u64().filter(|min| length < *min) {
            self.invalid(
                path,
                said,
                format!("{path} in body should be at least {min} chars long"),
            );
        }
        let pattern = text(schema, "pattern");
        if let Some(regex) = self.patterns.get(pattern)
            && !regex.is_match(said)
        {
            self.invalid(path, said, format!("{path} in body should match '{pattern}'"));
        }
        let format = text(schema, "format");
        if !formats::fits(said, format) {
            self.invalid(
                path,
                said,
                format!("{path} in body must be of type {format}: {said:?}"),
            );
        }
    }

    fn number(&mut self, path: &str, number: &serde_json::Number, schema: &Value) {
        let n = number.as_f64().unwrap_or(f64::NAN);
        let bound = |key: &str| get(schema, key).as_f64();
        let shown = |key: &str| get(schema, key).to_string();
        if let Some(max) = bound("maximum") {
            let open = flag(schema, "exclusiveMaximum");
            if n > max || (open && n >= max) {
                let than = if open {
                    "less than"
                } else {
                    "less than or equal to"
                };
                self.invalid(
                    path,
                    number.clone(),
                    format!("{path} in body should be {than} {}", shown("maximum")),
                );
            }
        }
        if let Some(min) = bound("minimum") {
            let open = flag(schema, "exclusiveMinimum");
            if n < min || (open && n <= min) {
                let than = if open {
                    "greater than"
                } else {
                    "greater than or equal to"
                };
                self.invalid(
                    path,
                    number.clone(),
                    format!("{path} in body should be {than} {}", shown("minimum")),
                );
            }
        }
        if let Some(factor) = bound("multipleOf").filter(|f| *f > 0.0)
            && ((n / factor).round() * factor - n).abs() > f64::EPSILON
        {
            self.invalid(
                path,
                number.clone(),
                format!("{path} in body should be a multiple of {}", shown("multipleOf")),
            );
        }
        let fits = match text(schema, "format") {
            "int32" => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            "int64" => number.as_i64().is_some() || n.fract() == 0.0,
            _ => true,
        };
        if !fits {
            let format = text(schema, "format");
            self.invalid(
                path,
                number.clone(),
                format!(
                    "Checked value must be of type {} with format {format}",
                    text(schema, "type")
                ),
            );
        }
    }

    fn array(&mut self, path: &str, items: &[Value], old: Option<&Value>, schema: &Value) {
        let count = items.len() as u64;
        if let Some(max) = get(schema, "maxItems").as_u64().filter(|max| count > *max) {
            self.too_many(path, items.len(), max, "items");
        }
        if let Some(min) = get(schema, "minItems").as_u64().filter(|min| count < *min) {
            self.invalid(
                path,
                count,
                format!("{path} in body should have at least {min} items"),
            );
        }
        let of = get(schema, "items");
        for (place, item) in items.iter().enumerate() {
            self.value(
                &format!("{path}[{place}]"),
                item,
                old_item(item, old, schema),
                of,
                false,
            );
        }
    }

    fn too_many(&mut self, path: &str, found: usize, max: u64, what: &str) {
        self.errors.push(FieldError {
            kind: FieldErrorKind::TooMany,
            path: path.to_owned(),
            value: Some(found.into()),
            detail: format!("must have at most {max} {what}"),
        });
    }

    fn members(&mut self, path: &str, value: &Value, old: Option<&Value>, schema: &Value, resource: bool) {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                self.errors.push(FieldError::required(below(path, name), ""));
            }
        }
        let count = value.as_object().map_or(0, serde_json::Map::len);
        if let Some(max) = get(schema, "maxProperties")
            .as_u64()
            .filter(|max| count as u64 > *max)
        {
            self.too_many(path, count, max, "properties");
        }
        if let Some(min) = get(schema, "minProperties")
            .as_u64()
            .filter(|min| (count as u64) < *min)
        {
            self.invalid(
                path,
                count,
                format!("{path} in body should have at least {min} properties"),
            );
        }
        let more = get(schema, "additionalProperties");
        for (name, held) in value.as_object().into_iter().flatten() {
            if (resource || embedded) && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let before = old.and_then(|old| old.get(name));
            match get(schema, "properties").get(name) {
                Some(property) => self.value(&below(path, name), held, before, property, false),
                None if more.is_object() => self.value(&below(path, name), held, before, more, false),
                None => {}
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn combined(&mut self, path: &str, value: &Value, schema: &Value) {
        let fitting = |key: &str| {
            let fits = |schema: &&Value| self::value(path, value, schema, self.patterns).is_empty();
            list(schema, key).iter().filter(fits).count()
        };
        let name = if path.is_empty() { "" } else { path };
        let (any, one, all) = (fitting("anyOf"), fitting("oneOf"), fitting("allOf"));
        if !list(schema, "anyOf").is_empty() && any == 0 {
            self.invalid(
                path,
                shown(value),
                format!("{name:?} must validate at least one schema (anyOf)"),
            );
        }
        if !list(schema, "oneOf").is_empty() && one != 1 {
            let found = if one == 0 {
                "none valid".to_owned()
            } else {
                format!("{one} valid alternatives")
            };
            let why = format!("{name:?} must validate one and only one schema (oneOf). Found {found}");
            self.invalid(path, shown(value), why);
        }
        if all < list(schema, "allOf").len() {
            for part in list(schema, "allOf") {
                let more = self::value(path, value, part, self.patterns);
                self.errors.extend(more);
            }
            self.invalid(
                path,
                shown(value),
                format!("{name:?} must validate all the schemas (allOf)"),
            );
        }
        let not = get(schema, "not");
        if not.is_object() && self::value(path, value, not, self.patterns).is_empty() {
            self.invalid(
                path,
                shown(value),
                format!("{name:?} must not validate the schema (not)"),
            );
        }
    }
}

/// What a composite error shows of a value: scalars only.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) => Value::from(""),
        scalar => scalar.clone(),
    }
}
