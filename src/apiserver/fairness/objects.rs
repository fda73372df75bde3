//! The objects of flow control, as they are kept and as they have to be.

use std::collections::BTreeMap;

use api::object;
use serde_json::Value;

use crate::registry::mandatory_flow_control;

pub const LEVELS: &str = "/flowcontrol.apiserver.k8s.io/prioritylevelconfigurations/";

/// Levels and schemas apart.
pub(super) fn sorted(objects: &BTreeMap<String, Value>) -> (Vec<Value>, Vec<Value>) {
    let (levels, schemas): (Vec<_>, Vec<_>) = objects.iter().partition(|(key, _)| key.starts_with(LEVELS));
    let values = |of: Vec<(&String, &Value)>| of.into_iter().map(|(_, value)| value.clone()).collect();
    (values(levels), values(schemas))
}

/// Adds those without which nothing goes, where they are missing.
pub(super) fn add_mandatory(levels: &mut Vec<Value>, schemas: &mut Vec<Value>) {
    let (own_levels, own_schemas) = mandatory_flow_control();
    for (all, own) in [(levels, own_levels), (schemas, own_schemas)] {
        let missing = |one: &Value| !all.iter().any(|live| object::name(live) == object::name(one));
        let add: Vec<Value> = own.into_iter().filter(missing).collect();
        all.extend(add);
    }
}
