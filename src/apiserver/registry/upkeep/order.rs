//! What is kept in order, and what brings it there. Pure.

use api::object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A collection that is kept in order: group, plural and namespace.
pub type Collection = (&'static str, &'static str, &'static str);

/// One write that brings an object into order.
#[derive(Debug, PartialEq)]
pub struct Write {
    /// Where it is.
    pub collection: Collection,
    /// How.
    pub what: What,
    /// The object as it has to be.
    pub object: Value,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It makes the object.
    Create,
    /// It replaces all but the status.
    Replace,
    /// It replaces the status.
    ReplaceStatus,
    /// It deletes the object.
    Delete,
}

/// Whether `live` has everything that `wanted` says; it may say more, as defaults do.
pub fn has_all(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| live.get(key).is_some_and(|live| has_all(live, wanted))),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| has_all(live, wanted))
        }
        _ => live == wanted,
    }
}

/// A condition of a status, as it is or as it has to be from now on; `None` if the object has it already.
pub fn condition(live: &Value, kind: &str, says: [&str; 3], now: Timestamp) -> Option<Value> {
    let [status, reason, message] = says;
    let wanted = json!({ "type": kind, "status": status, "reason": reason, "message": message });
    let conditions = object::get_list(live, &["status", "conditions"]);
    if conditions.iter().any(|condition| has_all(condition, &wanted)) {
        return None;
    }
    let mut new = live.clone();
    let mut others: Vec<Value> = conditions.iter().filter(|c| c["type"] != kind).cloned().collect();
    let mut wanted = wanted;
    wanted["lastTransitionTime"] = object::time_text(now).into();
    others.push(wanted);
    object::set(&mut new, &["status", "conditions"], others);
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_defaults_add_makes_no_difference() {
        let wanted = json!({"a": {"b": [{"c": 1}]}});
        assert!(has_all(&json!({"a": {"b": [{"c": 1, "d": 2}]}, "e": 3}), &wanted));
        assert!(!has_all(&json!({"a": {"b": [{"c": 1}, {"c": 1}]}}), &wanted));
        assert!(!has_all(&json!({"a": {}}), &wanted));
    }

    #[test]
    fn a_condition_is_replaced_and_others_stay() {
        let live = json!({"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B"}]}});
        let says = ["True", "Local", "Here"];
        let new = condition(&live, "A", says, Timestamp::UNIX_EPOCH).unwrap();
        let conditions = new["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 2);
        assert_eq!(
            (&conditions[0]["type"], &conditions[1]["status"]),
            (&json!("B"), &json!("True"))
        );
        assert_eq!(condition(&new, "A", says, Timestamp::UNIX_EPOCH), None);
    }
}
