//! Following the objects of flow control in the store.

use std::sync::{Arc, PoisonError};

use api::object;
use serde_json::Value;
use store::Entry;

use super::Fairness;
use crate::mirror::Mirror;

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
