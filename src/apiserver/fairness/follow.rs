//! Following the objects of flow control in the store.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use api::object;
use serde_json::Value;
use store::Entry;

use super::Fairness;
use crate::mirror::Mirror;
use crate::registry::mandatory_flow_control;

const LEVELS: &str = "/flowcontrol.apiserver.k8s.io/prioritylevelconfigurations/";

impl Mirror for Fairness {
    const PREFIX: &'static str = "/flowcontrol.apiserver.k8s.io/";
    const OF: &'static str = "flow schemas and priority levels";

    fn replace(&self, entries: &[Arc<Entry>]) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |entry: &Arc<Entry>| Some((entry.key.clone(), serde_json::from_slice(&entry.text).ok()?));
        *objects = entries.iter().filter_map(read).collect();
        self.think(&objects);
    }

    fn apply(&self, key: &str, text: Option<&[u8]>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match text.and_then(|text| serde_json::from_slice::<Value>(text).ok()) {
            Some(object) => {
                let same = |before: &Value| before["spec"] == object["spec"] && same_uid(before, &object);
                let unchanged = objects.get(key).is_some_and(same);
                objects.insert(key.to_owned(), object);
                if unchanged {
                    return;
                }
            }
            None => drop(objects.remove(key)),
        }
        self.think(&objects);
    }
}

fn same_uid(a: &Value, b: &Value) -> bool {
    object::uid(a) == object::uid(b)
}

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
