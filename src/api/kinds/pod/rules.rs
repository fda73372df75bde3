//! What holds for every pod, new or changed.

use serde_json::Value;

use super::{annotations, containers, spec};
use crate::pod::Amounts;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::{Field, entries, get, list, remove};

/// What holds for a pod however it came to be as it is.
pub fn pod_rules(pod: &Value, errors: &mut Vec<FieldError>) {
    let spec = Field::at(pod, "spec");
    annotations::check(&Field::at(pod, "metadata.annotations"), &spec, errors);
    spec::pod_spec(&spec, true, errors);
    containers::of_pods_only(&spec, errors);
}

/// The quality-of-service class of a Pod object.
pub fn qos_class(pod: &Value) -> &'static str {
    let resources = |holder: &Value| {
        (
            amounts(holder, "resources.requests"),
            amounts(holder, "resources.limits"),
        )
    };
    let spec = get(pod, "spec");
    if entries(spec, "resources").next().is_some() {
        return crate::pod::qos_of(&[resources(spec)]);
    }
    let all = list(spec, "containers")
        .iter()
        .chain(list(spec, "initContainers"));
    crate::pod::qos_of(&all.map(resources).collect::<Vec<_>>())
}

/// Removes what only the server may say, for comparison of specs.
pub fn without<'a>(spec: &Value, keys: impl IntoIterator<Item = &'a str>) -> Value {
    let mut spec = spec.clone();
    for key in keys {
        remove(&mut spec, key);
    }
    spec
}

fn amounts(holder: &Value, path: &str) -> Amounts {
    entries(holder, path)
        .filter_map(|(k, v)| Some((k.clone(), Quantity::from_json(v).ok()?)))
        .collect()
}
