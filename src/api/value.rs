//! Reading and filling JSON objects by dotted paths, and [`Field`]: a value
//! together with its path, from which validation errors are made.

use serde_json::{Map, Value};

use crate::status::{FieldError, FieldErrorKind};

static NULL: Value = Value::Null;

/// The value at a dotted path such as `spec.template.spec`; null when absent.
pub fn get<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |v, key| v.get(key).unwrap_or(&NULL))
}

/// The text at a path; empty when absent.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).as_str().unwrap_or("")
}

/// The whole number at a path.
pub fn int(value: &Value, path: &str) -> Option<i64> {
    get(value, path).as_i64()
}

/// The flag at a path; false when absent.
pub fn flag(value: &Value, path: &str) -> bool {
    get(value, path).as_bool().unwrap_or(false)
}

/// The list at a path; empty when absent.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the map at a path; none when absent.
pub fn entries<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    get(value, path).as_object().into_iter().flatten()
}

/// Whether there is something other than null at a path.
pub fn has(value: &Value, path: &str) -> bool {
    !get(value, path).is_null()
}

/// The value at a path, to be changed; `None` when absent or null.
pub fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.')
        .try_fold(value, |v, key| v.get_mut(key))
        .filter(|v| !v.is_null())
}

/// The object at a path, made if it is absent; `None` when something else is in the way.
pub fn object_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut at = value;
    for key in path.split('.') {
        at = at.as_object_mut()?.entry(key).or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    at.as_object_mut()
}

/// Calls `change` for each item of the list at a path.
pub fn each(value: &mut Value, path: &str, mut change: impl FnMut(&mut Value)) {
    if let Some(items) = get_mut(value, path).and_then(Value::as_array_mut) {
        items.iter_mut().for_each(&mut change);
    }
}

/// Sets `key` of an object unless it has a value other than null.
pub fn fill(object: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        let slot = map.entry(key).or_insert(Value::Null);
        if slot.is_null() {
            *slot = default.into();
        }
    }
}

/// Sets `key` of an object unless it has a value other than null and `""`, as Go's
/// defaulting does for plain strings.
pub fn fill_text(object: &mut Value, key: &str, default: &str) {
    if text(object, key).is_empty() {
        set(object, key, default);
    }
}

/// Sets `key` of an object unless it has a value other than null and 0, as Go's
/// defaulting does for plain numbers.
pub fn fill_number(object: &mut Value, key: &str, default: i64) {
    if int(object, key).unwrap_or(0) == 0 && !object.get(key).is_some_and(Value::is_string) {
        set(object, key, default);
    }
}

/// Sets `key` of an object.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes `key` of an object.
pub fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

/// Gives `new` the value that `old` has at a path of at most two segments (or none, if `old` has none).
pub fn keep(new: &mut Value, old: &Value, path: &str) {
    let (parent, key) = match path.rsplit_once('.') {
        Some((parent, key)) => (get_mut(new, parent), key),
        None => (Some(new), path),
    };
    let Some(parent) = parent else { return };
    match get(old, path) {
        Value::Null => remove(parent, key),
        value => set(parent, key, value.clone()),
    }
}

/// Whether two values mean the same: absent, null, `{}` and `[]` are one, as Go's semantic comparison has it.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&NULL)))
                && b.iter().all(|(k, v)| a.contains_key(k) || same(v, &NULL))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}

/// A value and where it lies, from which errors are made.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The value; null when absent.
    pub value: &'a Value,
    /// Its path, such as `spec.containers[0].name`.
    pub path: String,
}

impl<'a> Field<'a> {
    /// A value at a path of one's own.
    pub fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self {
            value,
            path: path.into(),
        }
    }

    /// The value at a dotted path of an object, with that path.
    pub fn at(object: &'a Value, path: &str) -> Self {
        Self::new(get(object, path), path)
    }

    /// A value below this one.
    pub fn get(&self, path: &str) -> Field<'a> {
        Field::new(get(self.value, path), self.path_of(path))
    }

    /// The path of a value below this one.
    pub fn path_of(&self, path: &str) -> String {
        if self.path.is_empty() {
            path.to_owned()
        } else {
            [self.path.as_str(), ".", path].concat()
        }
    }

    /// The items of a list below this value.
    pub fn items(&self, path: &str) -> Vec<Field<'a>> {
        let at = self.path_of(path);
        let items = list(self.value, path).iter().enumerate();
        items
            .map(|(i, item)| Field::new(item, format!("{at}[{i}]")))
            .collect()
    }

    /// The entries of a map below this value, with paths such as `metadata.labels[app]`.
    pub fn entries(&self, path: &str) -> Vec<(&'a str, Field<'a>)> {
        let at = self.path_of(path);
        entries(self.value, path)
            .map(|(k, v)| (k.as_str(), Field::new(v, format!("{at}[{k}]"))))
            .collect()
    }

    /// The text; empty when absent.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    /// The whole number.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The flag; false when absent.
    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// Whether there is something other than null here.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether there is nothing here, or an empty text, list or map.
    pub fn is_blank(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// The value is malformed.
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        let value = if self.is_set() {
            self.value.clone()
        } else {
            Value::from("")
        };
        FieldError::invalid(&self.path, value, detail)
    }

    /// The value is absent but must not be.
    pub fn required(&self, detail: &str) -> FieldError {
        FieldError::required(&self.path, detail)
    }

    /// The value may not be set here.
    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }

    /// The value repeats another.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.clone())
    }

    /// The value is not one of `supported`.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        let value = if self.is_set() {
            self.value.clone()
        } else {
            Value::from("")
        };
        FieldError::not_supported(&self.path, value, supported)
    }

    /// The value names something that does not exist.
    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.value.clone())
    }

    /// The list has `actual` items but may have only `max`.
    pub fn too_many(&self, actual: usize, max: usize) -> FieldError {
        FieldError {
            kind: FieldErrorKind::TooMany,
            path: self.path.clone(),
            value: Some(actual.into()),
            detail: format!("must have at most {max} items"),
        }
    }

    /// One `Invalid` error for each text.
    pub fn invalid_each(&self, texts: Vec<String>) -> impl Iterator<Item = FieldError> {
        texts.into_iter().map(|text| self.invalid(text))
    }

    /// `Required` when blank, `Unsupported value` when not one of `supported`.
    pub fn one_of(&self, supported: &[&str], errors: &mut Vec<FieldError>) {
        if self.is_blank() {
            errors.push(self.required(""));
        } else if !supported.contains(&self.text()) {
            errors.push(self.not_supported(supported));
        }
    }

    /// `Unsupported value` when set and not one of `supported`.
    pub fn one_of_if_set(&self, supported: &[&str], errors: &mut Vec<FieldError>) {
        if !self.is_blank() && !supported.contains(&self.text()) {
            errors.push(self.not_supported(supported));
        }
    }

    /// The number, if there is one, may not be negative.
    pub fn non_negative(&self, errors: &mut Vec<FieldError>) {
        self.at_least(0, errors);
    }

    /// The number, if there is one, must be `min` or more.
    pub fn at_least(&self, min: i64, errors: &mut Vec<FieldError>) {
        if self.int().is_some_and(|n| n < min) {
            errors.push(self.invalid(if min == 1 {
                "must be greater than zero".to_owned()
            } else {
                format!("must be greater than or equal to {min}")
            }));
        }
    }

    /// `Duplicate value` for every item of the list at `path` that repeats an earlier one's `key`;
    /// with an empty `key` the items themselves are compared.
    pub fn unique(&self, path: &str, key: &str, errors: &mut Vec<FieldError>) {
        let items = self.items(path);
        let keyed = |item: &Field<'a>| {
            if key.is_empty() {
                item.clone()
            } else {
                item.get(key)
            }
        };
        let mut seen = std::collections::HashSet::new();
        for item in items.iter().map(keyed).filter(|item| !item.is_blank()) {
            if !seen.insert(item.value.to_string()) {
                errors.push(item.duplicate());
            }
        }
    }

    /// `Required` when blank; says whether it was there.
    pub fn needed(&self, errors: &mut Vec<FieldError>) -> bool {
        if self.is_blank() {
            errors.push(self.required(""));
        }
        !self.is_blank()
    }

    /// `Too many` when the list at `path` has more than `max` items.
    pub fn at_most(&self, path: &str, max: usize, errors: &mut Vec<FieldError>) {
        let found = list(self.value, path).len();
        if found > max {
            errors.push(self.get(path).too_many(found, max));
        }
    }

    /// The value must be what it was in the object `old`.
    pub fn immutable(&self, old: &Value, errors: &mut Vec<FieldError>) {
        self.unchanged(get(old, &self.path), errors);
    }

    /// The value must be `before`.
    pub fn unchanged(&self, before: &Value, errors: &mut Vec<FieldError>) {
        if !same(self.value, before) {
            errors.push(FieldError::invalid(&self.path, self.value.clone(), IMMUTABLE));
        }
    }
}

/// The text of a change that is not allowed.
pub const IMMUTABLE: &str = "field is immutable";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_and_absent_are_the_same() {
        for (a, b, expected) in [
            (json!({"a": {}}), json!({}), true),
            (json!({"a": []}), json!({"a": null}), true),
            (json!({"a": {"b": []}}), json!({}), true),
            (json!({"a": ""}), json!({}), false),
            (json!([1, 2]), json!([2, 1]), false),
        ] {
            assert_eq!(same(&a, &b), expected, "{a} {b}");
            assert_eq!(same(&b, &a), expected, "{b} {a}");
        }
    }

    #[test]
    fn filling_and_keeping() {
        let mut value = json!({"spec": {"a": null, "n": 0, "s": ""}});
        let spec = get_mut(&mut value, "spec").unwrap();
        fill(spec, "a", 1);
        fill(spec, "n", 5);
        fill_number(spec, "n", 7);
        fill_text(spec, "s", "x");
        assert_eq!(value, json!({"spec": {"a": 1, "n": 7, "s": "x"}}));
        keep(&mut value, &json!({"spec": {"n": 1}}), "spec.n");
        keep(&mut value, &json!({}), "spec.a");
        assert_eq!(value, json!({"spec": {"n": 1, "s": "x"}}));
        object_mut(&mut value, "metadata.labels")
            .unwrap()
            .insert("k".into(), json!("v"));
        assert_eq!(value["metadata"]["labels"]["k"], "v");
        assert!(object_mut(&mut value, "spec.s.t").is_none());
    }

    #[test]
    fn fields_know_their_paths() {
        let value = json!({"spec": {"list": [{"a": 1}], "map": {"k": -1}}});
        let spec = Field::at(&value, "spec");
        assert_eq!(spec.items("list")[0].get("a").path, "spec.list[0].a");
        let mut errors = Vec::new();
        spec.entries("map")[0].1.non_negative(&mut errors);
        spec.get("kind").one_of(&["A"], &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.map[k]: Invalid value: -1: must be greater than or equal to 0",
                "spec.kind: Required value"
            ]
        );
    }
}
