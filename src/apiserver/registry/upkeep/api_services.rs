//! An APIService for every group version that this server serves itself, as `kubectl get apiservices` shows them
//! (Kubernetes' autoregistration).

use std::collections::{BTreeMap, BTreeSet};

use api::kind::KindRef;
use api::object;
use api::value::has;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::order::{Collection, What, Write, condition, has_all};
use crate::priorities::{self, REGISTRATION};
use crate::usage;

/// The collection.
pub(super) const SERVICES: Collection = (REGISTRATION, "apiservices", "");

/// Says that a service is here because the server serves its group version.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The value of those that are there from the start.
const ON_START: &str = "onstart";
/// The value of those that come and go with definitions.
const ALWAYS: &str = "true";

/// What every local service says of itself.
const AVAILABLE: [&str; 3] = ["True", "Local", "Local APIServices are always available"];

/// What has to be written, given what is served and what is there.
pub(super) fn plan(kinds: &[KindRef], live: &[Value], now: Timestamp) -> Vec<Write> {
    let served: BTreeSet<(&str, &str, bool)> = kinds
        .iter()
        .filter(|kind| kind.group != REGISTRATION)
        .map(|kind| {
            let comes_and_goes = kind.custom().is_some() && kind.group != usage::GROUP;
            (kind.group, kind.version, comes_and_goes)
        })
        .collect();
    let wanted: BTreeMap<String, Value> = served
        .into_iter()
        .map(|(group, version, custom)| (format!("{version}.{group}"), service(group, version, custom)))
        .collect();
    let there: BTreeSet<&str> = live.iter().map(object::name).collect();
    let missing = wanted.iter().filter(|(name, _)| !there.contains(name.as_str()));
    let told = |new: &Value| condition(new, "Available", AVAILABLE, now).unwrap_or_else(|| new.clone());
    let mut writes: Vec<Write> = missing.map(|(_, new)| write(What::Create, told(new))).collect();
    writes.extend(live.iter().filter_map(|service| {
        let served = wanted.contains_key(object::name(service));
        let managed = object::label(service, MANAGED).is_some();
        if managed && !served {
            return Some(write(What::Delete, service.clone()));
        }
        if object::label(service, MANAGED) == Some(ALWAYS)
            && let Some(wanted) = wanted.get(object::name(service))
            && (!has_all(&service["spec"], &wanted["spec"]) || has(service, "spec.service"))
        {
            let mut new = service.clone();
            new["spec"] = wanted["spec"].clone();
            return Some(write(What::Replace, new));
        }
        let local = service["spec"]["service"].is_null();
        let new = condition(service, "Available", AVAILABLE, now).filter(|_| local)?;
        Some(write(What::ReplaceStatus, new))
    }));
    writes
}

/// Whether a write is due because of the versions that a server was built with, or told, to serve.
pub(super) fn depends_on_settings(write: &Write) -> bool {
    matches!(write.what, What::Create | What::Delete)
        && object::label(&write.object, MANAGED) == Some(ON_START)
}

fn write(what: What, object: Value) -> Write {
    Write {
        collection: SERVICES,
        what,
        object,
    }
}

fn service(group: &str, version: &str, custom: bool) -> Value {
    let priority = priorities::of(group, version);
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": priority.group,
        "versionPriority": priority.version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": format!("{REGISTRATION}/v1"), "kind": "APIService",
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": { MANAGED: if custom { ALWAYS } else { ON_START } },
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> Vec<KindRef> {
        api::kinds::all()
            .iter()
            .map(|kind| KindRef::BuiltIn(kind))
            .collect()
    }

    #[test]
    fn services_are_made_and_said_to_be_available() {
        let kinds = built_in();
        let made = plan(&kinds, &[], Timestamp::UNIX_EPOCH);
        assert!(made.iter().all(|write| write.what == What::Create));
        let names: Vec<&str> = made.iter().map(|write| object::name(&write.object)).collect();
        for name in ["v1.", "v1.apps", "v1.autoscaling", "v2.autoscaling"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains(REGISTRATION)));
        let mut live: Vec<Value> = made.into_iter().map(|write| write.object).collect();
        assert_eq!(plan(&kinds, &live, Timestamp::UNIX_EPOCH), []);
        live[0]["status"]["conditions"][0]["status"] = "False".into();
        let told = plan(&kinds, &live, Timestamp::UNIX_EPOCH);
        assert_eq!(told.len(), 1);
        assert!(told.iter().all(|write| write.what == What::ReplaceStatus));
    }

    #[test]
    fn those_of_definitions_are_put_right_and_that_of_metrics_may_be_taken_over() {
        let mut kinds = built_in();
        kinds.extend(usage::kinds().into_iter().map(|(_, kind)| KindRef::Custom(kind)));
        let made = plan(&kinds, &[], Timestamp::UNIX_EPOCH).into_iter();
        let mut live: Vec<Value> = made.map(|write| write.object).collect();
        let is_metrics = |service: &&mut Value| object::name(service) == "v1beta1.metrics.k8s.io";
        let metrics = live.iter_mut().find(is_metrics).unwrap();
        assert_eq!(object::label(metrics, MANAGED), Some(ON_START));
        assert_eq!(metrics["spec"]["groupPriorityMinimum"], 100);
        metrics["spec"]["service"] = json!({"name": "metrics-server", "namespace": "kube-system"});
        let writes = plan(&kinds, &live, Timestamp::UNIX_EPOCH);
        assert!(
            !writes
                .iter()
                .any(|w| object::name(&w.object) == "v1beta1.metrics.k8s.io")
        );

        let mut taken = service("apps", "v1", true);
        taken["spec"]["service"] = json!({"name": "a", "namespace": "b"});
        let mended = plan(&kinds, &[taken], Timestamp::UNIX_EPOCH)
            .into_iter()
            .find(|w| w.what == What::Replace);
        assert!(mended.unwrap().object["spec"]["service"].is_null());
    }

    #[test]
    fn what_is_not_served_any_more_goes_unless_somebody_else_made_it() {
        let kinds = built_in();
        let first = plan(&kinds, &[], Timestamp::UNIX_EPOCH)
            .into_iter()
            .map(|w| w.object);
        let mut live: Vec<Value> = first.collect();
        live.push(service("gone.example.com", "v1", true));
        let mut foreign = service("else.example.com", "v1", true);
        foreign["metadata"]["labels"] = json!({});
        foreign["spec"]["service"] = json!({"name": "a", "namespace": "b"});
        live.push(foreign);
        let writes = plan(&kinds, &live, Timestamp::UNIX_EPOCH);
        let deleted: Vec<&str> = writes
            .iter()
            .filter(|write| write.what == What::Delete)
            .map(|write| object::name(&write.object))
            .collect();
        assert_eq!(deleted, ["v1.gone.example.com"]);
        assert!(
            !writes
                .iter()
                .any(|w| object::name(&w.object) == "v1.else.example.com")
        );
    }
}
