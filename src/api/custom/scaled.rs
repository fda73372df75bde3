//! The numbers of an object that its `scale` shows: they must be numbers of replicas.

use serde_json::Value;

use crate::kind::ScalePaths;
use crate::status::FieldError;

/// What is wrong with the wanted number.
pub fn spec(object: &Value, paths: &ScalePaths) -> Vec<FieldError> {
    count(object, paths.replicas).into_iter().collect()
}

/// What is wrong with the number that there is, and with the selector.
pub fn status(object: &Value, paths: &ScalePaths) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = count(object, paths.current).into_iter().collect();
    if !paths.selector.is_empty() {
        let wrong = find(object, paths.selector).and_then(|found| match found {
            None | Some(Value::String(_)) => Ok(()),
            Some(other) => Err(of_type(paths.selector, other, "string")),
        });
        errors.extend(
            wrong
                .err()
                .map(|why| invalid(paths.selector, Value::from(""), why)),
        );
    }
    errors
}

fn invalid(path: &str, value: Value, why: String) -> FieldError {
    FieldError::invalid(format!(".{path}"), value, why)
}

fn count(object: &Value, path: &str) -> Option<FieldError> {
    let found = match find(object, path) {
        Ok(found) => found?,
        Err(why) => return Some(invalid(path, Value::from(0), why)),
    };
    let Some(n) = found.as_i64() else {
        return Some(invalid(path, Value::from(0), of_type(path, found, "int64")));
    };
    let why = if n < 0 {
        "should be a non-negative integer".to_owned()
    } else if n > i64::from(i32::MAX) {
        format!("should be less than or equal to {}", i32::MAX)
    } else {
        return None;
    };
    Some(invalid(path, n.into(), why))
}

/// The value at a path, if there is one.
///
/// # Errors
/// Go's text when something on the way is no object.
fn find<'v>(object: &'v Value, path: &str) -> Result<Option<&'v Value>, String> {
    let mut at = object;
    let mut way = String::new();
    for name in path.split('.') {
        let Some(map) = at.as_object() else {
            return Err(of_type(&way, at, "map[string]interface {}"));
        };
        let Some(below) = map.get(name) else {
            return Ok(None);
        };
        at = below;
        way = if way.is_empty() {
            name.to_owned()
        } else {
            format!("{way}.{name}")
        };
    }
    Ok(Some(at))
}

/// The text of Go's `unstructured` about a value of the wrong type.
fn of_type(path: &str, found: &Value, wanted: &str) -> String {
    let (shown, kind) = match found {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(flag) => (flag.to_string(), "bool"),
        Value::Number(n) if n.is_i64() => (n.to_string(), "int64"),
        Value::Number(n) => (n.to_string(), "float64"),
        Value::String(text) => (text.clone(), "string"),
        Value::Array(_) => (found.to_string(), "[]interface {}"),
        Value::Object(_) => (found.to_string(), "map[string]interface {}"),
    };
    format!(".{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
}
