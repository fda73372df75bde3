//! Writes the default roles and bindings when the server starts: creates what is
//! missing and adds rules and subjects that an older set lacks, as Kubernetes does.
//! What an administrator added stays; the annotation
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` keeps an object as it is.

use std::sync::Arc;

use api::request::{Request, ResourceRef, User, Verb};
use api::status::Status;
use client::ApiRef;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::defaults::{self, Default};
use super::rules;
use crate::authz::PolicyRule;
use crate::lookup::Lookup;

/// Writes go through the store in batches; this many wait for one at a time.
const AT_ONCE: usize = 64;

/// Brings the defaults up to date through `api`, as `user`.
pub(crate) async fn reconcile(api: &ApiRef, lookup: &Arc<dyn Lookup>, user: &User) -> Result<(), Status> {
    let (roles, bindings): (Vec<Default>, Vec<Default>) = defaults::all()
        .into_iter()
        .partition(|d| !d.plural.ends_with("bindings"));
    // Roles first: a binding's role must exist for the escalation check to pass.
    for batch in [roles, bindings] {
        let writes = batch.into_iter().filter_map(|d| write_for(d, lookup, user));
        let results: Vec<_> = stream::iter(writes)
            .map(|request| api.call(request))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for result in results {
            match result {
                // Another server of the cluster was faster.
                Err(status) if status.is_already_exists() || status.is_conflict() => {}
                Err(status) => return Err(status),
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

fn write_for(default: Default, lookup: &Arc<dyn Lookup>, user: &User) -> Option<Request> {
    let group = "rbac.authorization.k8s.io";
    let stored = lookup.find(group, default.plural, &default.namespace, &default.name);
    let (verb, name, object) = match stored {
        None => (Verb::Create, "", default.object),
        Some(found) => {
            let live: Value = serde_json::from_slice(&found.text).unwrap_or_default();
            (
                Verb::Update,
                default.name.as_str(),
                merged(&live, &default.object)?,
            )
        }
    };
    let resource = ResourceRef::new(group, "v1", default.plural);
    let mut request = Request::new(user.clone(), verb, resource, &default.namespace, name);
    request.body = object.to_string().into();
    Some(request)
}

/// The live object with what the default adds; `None` when nothing is missing.
fn merged(live: &Value, default: &Value) -> Option<Value> {
    if live["metadata"]["annotations"][super::defaults::AUTOUPDATE] == "false" {
        return None;
    }
    let mut new = live.clone();
    let mut changed = false;
    for field in ["labels", "annotations"] {
        for (key, value) in default["metadata"][field].as_object().into_iter().flatten() {
            if live["metadata"][field].get(key).is_none() {
                new["metadata"][field][key] = value.clone();
                changed = true;
            }
        }
    }
    if default.get("aggregationRule").is_some() {
        if live.get("aggregationRule").is_none() {
            new["aggregationRule"] = default["aggregationRule"].clone();
            changed = true;
        }
    } else {
        changed |= add_rules(&mut new, default);
    }
    for subject in default["subjects"].as_array().into_iter().flatten() {
        let same = |s: &Value| {
            ["kind", "name", "namespace"]
                .iter()
                .all(|key| s[key] == subject[key])
        };
        let present = live["subjects"]
            .as_array()
            .is_some_and(|list| list.iter().any(same));
        if !present {
            push(&mut new["subjects"], subject.clone());
            changed = true;
        }
    }
    changed.then_some(new)
}

fn add_rules(new: &mut Value, default: &Value) -> bool {
    let read = |value: &Value| -> Vec<PolicyRule> {
        serde_json::from_value(value["rules"].clone()).unwrap_or_default()
    };
    let missing = rules::compact(rules::uncovered(&read(new), &read(default)));
    for rule in &missing {
        push(&mut new["rules"], serde_json::to_value(rule).unwrap_or_default());
    }
    !missing.is_empty()
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_added_and_what_was_added_stays() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let default = json!({"metadata": {"labels": {"a": "b"}}, "rules": [rule("get"), rule("list")]});
        let live = json!({"metadata": {"labels": {"a": "b"}}, "rules": [rule("get"), rule("delete")]});
        let new = merged(&live, &default).unwrap();
        assert_eq!(new["rules"], json!([rule("get"), rule("delete"), rule("list")]));
        assert_eq!(merged(&new, &default), None);
        let kept = json!({"metadata": {"annotations": {super::super::defaults::AUTOUPDATE: "false"}}});
        assert_eq!(merged(&kept, &default), None);
    }

    #[test]
    fn a_binding_gets_its_subject_back() {
        let subject = json!({"kind": "Group", "name": "system:masters"});
        let default = json!({"metadata": {}, "subjects": [subject]});
        let new = merged(&json!({"metadata": {}}), &default).unwrap();
        assert_eq!(new["subjects"], json!([subject]));
    }
}
