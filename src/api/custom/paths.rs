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

/// What is wrong with a path of the scale subresource or a selectable field: fields alone, below `below`.
pub fn validate(path: &str, below: &str) -> Option<String> {
    let steps = match parse(path) {
        Some(steps) if path.starts_with('.') => steps,
        _ => return Some("must be a json path in the dot notation".to_owned()),
    };
    if steps.iter().any(|step| !matches!(step, Step::Field(_))) {
        return Some("must be a json path in the dot notation".to_owned());
    }
    if !path.starts_with(below) {
        return Some(format!(
            "should be a json path under {}",
            below.trim_end_matches('.')
        ));
    }
    None
}

/// The schema at a path of fields; null when there is none.
pub fn schema_at<'v>(schema: &'v Value, path: &str) -> &'v Value {
    let steps = path.trim_start_matches('.').split('.');
    steps.fold(schema, |schema, name| get(get(schema, "properties"), name))
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
        assert_eq!(validate(".spec.replicas", ".spec"), None);
        assert!(validate(".status.x", ".spec").is_some() && validate(".spec.x[0]", ".spec").is_some());
    }
}
