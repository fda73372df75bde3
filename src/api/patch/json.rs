//! JSON patch (RFC 6902), with the leniencies of the Go library that Kubernetes
//! uses: negative array indices count from the end, and what an object lacks can be replaced.

use serde_json::Value;

use super::bounds::Bounds;
use super::does_not_fit;
use crate::status::Status;

/// Kubernetes refuses longer patches.
const OPERATIONS_MAX: usize = 10_000;

/// Applies a JSON patch, all of it or nothing.
///
/// # Errors
/// 400 for a patch that is not a list of operations, 413 for too many of them, 422 for one that does not fit the
/// object, makes too much of it, or whose `test` fails.
pub fn json_patch(object: Value, patch: &Value) -> Result<Value, Status> {
    let Value::Array(operations) = patch else {
        let word = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "null",
        };
        return Err(Status::bad_request(format!(
            "json: cannot unmarshal {word} into Go value of type jsonpatch.Patch"
        )));
    };
    if operations.len() > OPERATIONS_MAX {
        let text = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", text));
    }
    let mut bounds = Bounds::default();
    operations.iter().try_fold(object, |object, operation| {
        if !operation.is_object() {
            return Err(Status::bad_request(
                "json: cannot unmarshal into Go value of type jsonpatch.Operation",
            ));
        }
        step(object, operation, &mut bounds).map_err(does_not_fit)
    })
}

fn step(mut object: Value, operation: &Value, bounds: &mut Bounds) -> Result<Value, String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let path = text("path").ok_or("missing path")?;
    let from = || text("from").ok_or_else(|| "missing from".to_owned());
    let levels = path.matches('/').count();
    let mut value = || {
        let value = operation.get("value").ok_or("missing value")?;
        bounds.place(value, levels)?;
        Ok::<_, String>(value.clone())
    };
    match text("op").unwrap_or_default() {
        "add" => add(&mut object, path, value()?)?,
        "remove" => drop(remove(&mut object, path)?),
        "replace" if path.is_empty() => object = value()?,
        "replace" => match parent(&mut object, path)? {
            // Public clients rely on it: external-snapshotter replaces the annotations of objects without any.
            (Value::Object(map), key) => drop(map.insert(key, value()?)),
            (inner, key) => *child_mut(inner, &key).ok_or_else(|| missing(path))? = value()?,
        },
        "move" => {
            let moved = remove(&mut object, from()?)?;
            bounds.place(&moved, levels)?;
            add(&mut object, path, moved)?;
        }
        "copy" => {
            let copied = find(&object, from()?)?;
            bounds.copy(copied, levels)?;
            let copied = copied.clone();
            add(&mut object, path, copied)?;
        }
        "test" => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            let found = find(&object, path).unwrap_or(&Value::Null);
            if found != wanted {
                return Err(format!("testing value {path} failed: test failed"));
            }
        }
        other => return Err(format!("Unexpected kind: {other}")),
    }
    Ok(object)
}

fn steps(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let inner = path
        .strip_prefix('/')
        .ok_or_else(|| format!("path {path} does not begin with /"))?;
    Ok(inner
        .split('/')
        .map(|s| s.replace("~1", "/").replace("~0", "~"))
        .collect())
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {path}: missing value")
}

/// The place of an existing item; negative numbers count from the end.
fn place(step: &str, length: usize) -> Option<usize> {
    let number: i64 = step.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let number = if number < 0 { number + length } else { number };
    usize::try_from(number).ok().filter(|_| number < length)
}

fn child<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(place(step, items.len())?),
        _ => None,
    }
}

fn child_mut<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(items) => {
            let place = place(step, items.len())?;
            items.get_mut(place)
        }
        _ => None,
    }
}

fn find<'a>(object: &'a Value, path: &str) -> Result<&'a Value, String> {
    let found = steps(path)?.iter().try_fold(object, |at, step| child(at, step));
    found.ok_or_else(|| missing(path))
}

/// The container that holds the last step, and that step.
fn parent<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let mut steps = steps(path)?;
    let last = steps.pop().ok_or_else(|| missing(path))?;
    let found = steps.iter().try_fold(object, |at, step| child_mut(at, step));
    Ok((found.ok_or_else(|| missing(path))?, last))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    match parent(object, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(items), key) if key == "-" => items.push(value),
        (Value::Array(items), key) => {
            // One more than the last item may be named: it appends.
            let at = place(&key, items.len() + 1)
                .ok_or_else(|| format!("Unable to access invalid index: {key}"))?;
            items.insert(at, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, String> {
    match parent(object, path)? {
        (Value::Object(map), key) => map
            .remove(&key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}")),
        (Value::Array(items), key) => match place(&key, items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(format!("Unable to access invalid index: {key}")),
        },
        _ => Err(missing(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(object: Value, patch: Value) -> Result<Value, (u16, String)> {
        json_patch(object, &patch).map_err(|s| (s.code, s.details.unwrap().causes[0].message.clone()))
    }

    #[test]
    fn small_patches_make_nothing_huge_or_deep() {
        let doubling = |place| json!({"op": "copy", "from": "", "path": format!("/x{place}")});
        let bomb: Vec<Value> = (0..60).map(doubling).collect();
        let (code, why) = patched(json!({"a": "x".repeat(1000)}), bomb.into()).unwrap_err();
        assert_eq!(code, 422);
        assert!(why.starts_with("Unable to complete the copy"), "{why}");
        let deeper = |_| {
            let operation =
                |op: &str, from: &str, path: &str| json!({"op": op, "from": from, "path": path, "value": {}});
            [
                operation("add", "", "/b"),
                operation("move", "/a", "/b/a"),
                operation("move", "/b", "/a"),
            ]
        };
        let well: Vec<Value> = (0..3000).flat_map(deeper).collect();
        assert_eq!(
            patched(json!({"a": {}}), well.into()),
            Err((422, "exceeded max depth".to_owned()))
        );
        let toss = |place: usize| {
            let (from, to) = if place.is_multiple_of(2) {
                ("/a", "/b")
            } else {
                ("/b", "/a")
            };
            json!({"op": "move", "from": from, "path": to})
        };
        let tosses: Vec<Value> = (0..10_000).map(toss).collect();
        let many = json!({"a": vec![0; 10_000]});
        let (_, why) = patched(many, tosses.into()).unwrap_err();
        assert!(why.starts_with("the operations touch more than"), "{why}");
    }

    #[test]
    fn does_what_rfc_6902_shows() {
        for (object, patch, result) in [
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": 1}]),
                json!({"baz": 1, "foo": "bar"}),
            ),
            (
                json!({"a": [1, 3]}),
                json!([{"op": "add", "path": "/a/1", "value": 2}]),
                json!({"a": [1, 2, 3]}),
            ),
            (
                json!({"a": [1]}),
                json!([{"op": "add", "path": "/a/-", "value": 2}]),
                json!({"a": [1, 2]}),
            ),
            (
                json!({"a": 1, "b": 2}),
                json!([{"op": "remove", "path": "/a"}]),
                json!({"b": 2}),
            ),
            (
                json!({"a": [1, 2, 3]}),
                json!([{"op": "remove", "path": "/a/1"}]),
                json!({"a": [1, 3]}),
            ),
            (
                json!({"a": [1, 2, 3]}),
                json!([{"op": "remove", "path": "/a/-1"}]),
                json!({"a": [1, 2]}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "replace", "path": "/a", "value": 2}]),
                json!({"a": 2}),
            ),
            (
                json!({"a": {}, "l": [1, 2]}),
                json!([{"op": "replace", "path": "/a/new", "value": {"b": 1}}, {"op": "replace", "path": "/l/1", "value": 3}]),
                json!({"a": {"new": {"b": 1}}, "l": [1, 3]}),
            ),
            (
                json!({"a": {"b": 1}}),
                json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
                json!({"a": {}, "c": 1}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "copy", "from": "/a", "path": "/b"}]),
                json!({"a": 1, "b": 1}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "test", "path": "/a", "value": 1}]),
                json!({"a": 1}),
            ),
            (
                json!({"a/b": 1, "m~n": 2}),
                json!([{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}]),
                json!({}),
            ),
        ] {
            assert_eq!(patched(object, patch), Ok(result));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for patch in [
            json!([{"op": "remove", "path": "/x"}]),
            json!([{"op": "replace", "path": "/x/y", "value": 1}]),
            json!([{"op": "replace", "path": "/list/0", "value": 1}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            json!([{"op": "add", "path": "/list/9", "value": 1}]),
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "dance", "path": "/a"}]),
            json!([{"op": "add", "path": "a", "value": 2}]),
        ] {
            let status = json_patch(json!({"a": 1, "list": []}), &patch).unwrap_err();
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{patch}");
            assert_eq!(
                status.message,
                "the server rejected our request due to an error in our request"
            );
        }
        assert_eq!(json_patch(json!({}), &json!({})).unwrap_err().code, 400);
    }

    proptest! {
        #[test]
        fn never_panics(op in "add|remove|replace|move|copy|test", path in "(/[ab0-3~-]{0,2}){0,3}", from in "(/[ab0-2]){0,2}") {
            let object = json!({"a": [1, {"b": 2}], "b": {"a": 1}, "": 3});
            let _ = json_patch(object, &json!([{"op": op, "path": path, "from": from, "value": 1}]));
        }
    }
}
