//! Computed values as JSON, for objects that expressions write down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::val::Val;

/// A value as JSON.
///
/// # Errors
/// For what JSON cannot say, such as a type or a number that is none.
pub fn to_json(value: &Val<'_>) -> Result<Value, String> {
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(flag) => Value::from(*flag),
        Val::Int(n) => Value::from(*n),
        Val::Uint(n) => Value::from(*n),
        Val::Double(n) => number(*n)?,
        Val::Text(text) | Val::Url(text) => Value::from(&**text),
        Val::Bytes(bytes) => Value::from(STANDARD.encode(bytes)),
        Val::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Val::Map(entries) => Value::Object(object(entries)?),
        Val::Json(value, _) => (*value).clone(),
        Val::Duration(_) | Val::Time(_) | Val::Quantity(_) | Val::Ip(_) | Val::Cidr(..) => {
            Value::from(super::strings::show(value))
        }
        Val::Failed(why) => return Err(why.to_string()),
        Val::Type(_) | Val::Optional(_) | Val::Authority(_) | Val::Semver(_) | Val::Format(_) => {
            return Err(format!(
                "unsupported type conversion: {} to JSON",
                value.type_name()
            ));
        }
    })
}

fn number(n: f64) -> Result<Value, String> {
    let whole = n.fract() == 0.0 && n.abs() < 9e15;
    if whole {
        return Ok(Value::from(n as i64));
    }
    let number = Number::from_f64(n).ok_or_else(|| format!("{n} is no number in JSON"))?;
    Ok(Value::Number(number))
}

fn object(entries: &[(Val<'_>, Val<'_>)]) -> Result<Map<String, Value>, String> {
    let pair = |(key, value): &(Val<'_>, Val<'_>)| match key {
        Val::Text(key) => Ok((key.to_string(), to_json(value)?)),
        other => Err(format!("{} is no key in JSON", other.type_name())),
    };
    entries.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Budget, Program, Scope};
    use super::*;

    #[test]
    fn objects_that_are_written_down_become_json() {
        let old = json!({"spec": {"replicas": 3, "list": [1, {"a": "b"}]}});
        let scope = Scope::new().with("object", Val::json(&old, None));
        let source = "Object{metadata: Object.metadata{labels: {'a/b': 'c'}}, spec: Object.spec{\
                      replicas: object.spec.replicas + 1, ?gone: object.spec.?gone, list: object.spec.list, \
                      half: 0.5, __namespace__: jsonpatch.escapeKey('a/b~')}}";
        let program = Program::compile(source, &["object"]).unwrap();
        let made = program.eval(&scope, &mut Budget::new(10_000)).unwrap();
        assert_eq!(
            to_json(&made).unwrap(),
            json!({"metadata": {"labels": {"a/b": "c"}}, "spec": {"replicas": 4, "list": [1, {"a": "b"}], "half": 0.5,
                "namespace": "a~1b~0"}})
        );
        assert!(Program::compile("Thing{a: 1}", &["object"]).is_err());
        let patch = Program::compile("[JSONPatch{op: 'add', path: '/a', value: 1}]", &[]).unwrap();
        let made = patch.eval(&Scope::new(), &mut Budget::new(1000)).unwrap();
        assert_eq!(
            to_json(&made).unwrap(),
            json!([{"op": "add", "path": "/a", "value": 1}])
        );
        assert!(to_json(&Val::Type("int")).is_err());
    }
}
