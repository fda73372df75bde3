//! The simple JSON paths of printer columns, selectable fields and the scale subresource.

use serde_json::Value;

use crate::value::get;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A member, by name.
    Field(String),
    /// An item, by place; negative from the end.
    Item(i64),
    /// All items or members.
    All,
    /// The items whose member has that value.
    Where(Vec<Step>, String),
}

/// Reads a path such as `.spec.ports[0].name` or `.status.conditions[?(@.type=="Ready")].status`.
pub fn parse(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut out = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            if after.starts_with('[') {
                rest = after;
                continue;
            }
            let (name, after) = field(after)?;
            out.push(if name == "*" { Step::All } else { Step::Field(name) });
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = bracket(after)?;
            out.push(step);
            rest = after;
        } else {
            return None;
        }
    }
    Some(out)
}

/// A name up to the next `.` or `[`; a backslash keeps the next character.
fn field(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' => name.push(letters.next()?.1),
            '.' | '[' => return (!name.is_empty()).then_some((name, text.get(at..)?)),
            c => name.push(c),
        }
    }
    (!name.is_empty()).then_some((name, ""))
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(filter) = text.strip_prefix("?(@") {
        let (filter, rest) = filter.split_once(")]")?;
        let (path, value) = filter.split_once("==")?;
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        return Some((Step::Where(parse(path.trim())?, value), rest));
    }
    let (inner, rest) = text.split_once(']')?;
    let quoted = inner.strip_prefix('\'').and_then(|i| i.strip_suffix('\''));
    let step = match (inner, quoted) {
        ("*", _) => Step::All,
        (_, Some(name)) => Step::Field(name.to_owned()),
        _ => Step::Item(inner.parse().ok()?),
    };
    Some((step, rest))
}

/// The values at a path.
pub fn find<'v>(value: &'v Value, path: &[Step]) -> Vec<&'v Value> {
    let Some((step, rest)) = path.split_first() else {
        return vec![value];
    };
    let below: Vec<&Value> = match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Item(place), Value::Array(items)) => {
            let place = if *place < 0 {
                place.checked_add_unsigned(items.len() as u64)
            } else {
                Some(*place)
            };
            let place = place.and_then(|place| usize::try_from(place).ok());
            place.and_then(|place| items.get(place)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(path, wanted), Value::Array(items)) => {
            let has = |item: &&Value| find(item, path).iter().any(|found| shown(found) == *wanted);
            items.iter().filter(has).collect()
        }
        _ => Vec::new(),
    };
    below.into_iter().flat_map(|inner| find(inner, rest)).collect()
}

/// A value as text.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What is wrong with a path that must begin with a dot (apiextensions `validateSimpleJSONPath`).
pub fn simple(path: &str) -> Option<&'static str> {
    (!path.starts_with('.')).then_some("must be a simple json path starting with .")
}

/// The schema of the member at a path such as `.spec.labels['a.b']`; `brackets` says whether those are allowed
/// (apiextensions `cel.ValidFieldPath`).
///
/// # Errors
/// Kubernetes' text of why there is none.
pub fn member<'v>(path: &str, schema: &'v Value, brackets: bool) -> Result<&'v Value, String> {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            let (word, left) = after.split_at_checked(end).unwrap_or((after, ""));
            if word.is_empty() && left.is_empty() {
                return Err("unexpected end of JSON path".to_owned());
            }
            (name, rest) = (word.to_owned(), left);
        } else if let Some(after) = rest.strip_prefix('[') {
            if !brackets {
                return Err("array notation is not allowed".to_owned());
            }
            (name, rest) = quoted(after)?;
        } else {
            let end = rest.find(['.', '[', ']']).unwrap_or(rest.len()).max(1);
            let token = rest.get(..end).unwrap_or(rest);
            return Err(format!("expected [ or . but got: {token}"));
        }
        let nowhere = || "does not refer to a valid field".to_owned();
        at = match (get(at, "properties"), get(at, "additionalProperties")) {
            (Value::Object(members), _) => members.get(&name).ok_or_else(nowhere)?,
            (_, more @ Value::Object(_)) => more,
            _ => return Err(nowhere()),
        };
    }
    Ok(at)
}

/// A name in single quotes, up to the bracket that closes, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let token = text.split(']').next().unwrap_or_default();
    let Some(inner) = text.strip_prefix('\'') else {
        return Err(format!("expected single quoted string but got {token}"));
    };
    let mut name = String::new();
    let mut letters = inner.char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' => name.extend(letters.next().map(|(_, c)| c)),
            '\'' => {
                let rest = inner.get(at + 1..).unwrap_or_default();
                return match rest.strip_prefix(']') {
                    Some(rest) => Ok((name, rest)),
                    None if rest.is_empty() => Err("unexpected end of JSON path".to_owned()),
                    None => Err(format!("expected ] but got {rest}")),
                };
            }
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({"a": {"b": [{"t": "x", "v": 1}, {"t": "y", "v": 2}], "c.d": 3}});
        for (path, wanted) in [
            (".a.b[0].v", vec![json!(1)]),
            (".a.b[-1].v", vec![json!(2)]),
            (".a.b[*].v", vec![json!(1), json!(2)]),
            (".a.b[?(@.t==\"y\")].v", vec![json!(2)]),
            (".a.c\\.d", vec![json!(3)]),
            (".a['c.d']", vec![json!(3)]),
            (".a.z", vec![]),
        ] {
            let found: Vec<Value> = find(&object, &parse(path).unwrap())
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(found, wanted, "{path}");
        }
        assert!(parse("a.b").is_none() && parse(".a[").is_none() && parse("..").is_none());
        assert!(simple(".spec.replicas").is_none() && simple("spec").is_some());
    }

    #[test]
    fn members_are_found_in_schemas() {
        let schema = json!({"properties": {"spec": {"properties": {"a": {"type": "string"},
            "map": {"additionalProperties": {"type": "integer"}}}}}});
        let found = |path: &str| member(path, &schema, true).map(|found| found["type"].clone());
        assert_eq!(found(".spec.a"), Ok(json!("string")));
        assert_eq!(found(".spec['a']"), Ok(json!("string")));
        assert_eq!(found(".spec.map['x.y']"), Ok(json!("integer")));
        for (path, why) in [
            (".spec.b", "does not refer to a valid field"),
            ("spec", "expected [ or . but got: spec"),
            (".", "unexpected end of JSON path"),
            (".spec[a]", "expected single quoted string but got a"),
            (".spec['a'", "unexpected end of JSON path"),
        ] {
            assert_eq!(found(path), Err(why.to_owned()), "{path}");
        }
        let plain = member(".spec['a']", &schema, false);
        assert_eq!(plain, Err("array notation is not allowed".to_owned()));
    }
}
