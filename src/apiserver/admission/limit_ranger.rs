//! LimitRanger: what containers ask for when they say nothing, and the bounds of what they, pods and claims may ask for.

mod bounds;

use std::collections::BTreeMap;

use api::go;
use api::object;
use api::pod::{self, Amounts};
use api::quantity::Quantity;
use api::status::Status;
use api::value;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::plugin::{Operation, Plugin, Review, World};
use bounds::Asked;

/// Where a pod says what was added to it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !is_pod(review) {
            return Ok(());
        }
        let ranges = world.all("", "limitranges", review.namespace);
        if let Some(pod) = review.object.as_deref_mut() {
            ranges.iter().for_each(|range| set_defaults(pod, range));
        }
        Ok(())
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let is_claim = review.is("", "persistentvolumeclaims")
            && matches!(review.operation, Operation::Create | Operation::Update);
        let Some(object) = review.object.as_deref().filter(|_| is_claim || is_pod(review)) else {
            return Ok(());
        };
        for range in world.all("", "limitranges", review.namespace) {
            let limits = value::list(&range, "spec.limits").iter();
            let broken: Vec<String> = limits
                .flat_map(|limit| breaches(limit, object, is_claim))
                .collect();
            if !broken.is_empty() {
                return Err(review.forbid(&go::aggregate(&broken)));
            }
        }
        Ok(())
    }
}

/// New pods, and those that are resized.
fn is_pod(review: &Review<'_>) -> bool {
    (review.is("", "pods") && review.operation == Operation::Create)
        || (review.is_part("", "pods", "resize") && review.operation == Operation::Update)
}

const LISTS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

/// Gives containers what a range says of those that say nothing, and notes it in the pod.
fn set_defaults(pod: &mut Value, range: &Value) {
    let mut defaults = [("requests", json!({})), ("limits", json!({}))];
    for limit in value::list(range, "spec.limits") {
        if value::text(limit, "type") == "Container" {
            for ((_, into), from) in defaults.iter_mut().zip(["defaultRequest", "default"]) {
                value::entries(limit, from).for_each(|(name, amount)| into[name] = amount.clone());
            }
        }
    }
    let mut notes = Vec::new();
    for (list, noun) in LISTS {
        value::each(pod, &format!("spec.{list}"), |container| {
            let name = value::text(container, "name").to_owned();
            for (key, amounts) in &defaults {
                let added = fill(container, key, amounts);
                if !added.is_empty() {
                    let what = key.trim_end_matches('s');
                    notes.push(format!("{} {what} for {noun} {name}", added.join(", ")));
                }
            }
        });
    }
    if !notes.is_empty() {
        object::set_annotation(
            pod,
            ANNOTATION,
            format!("LimitRanger plugin set: {}", notes.join("; ")),
        );
    }
}

/// Adds what is missing of `amounts`; returns the names of what it was.
fn fill(container: &mut Value, key: &str, amounts: &Value) -> Vec<String> {
    let mut added = Vec::new();
    for (name, amount) in amounts.as_object().into_iter().flatten() {
        if value::get(container, "resources")
            .get(key)
            .and_then(|given| given.get(name))
            .is_none()
        {
            object::set(container, &["resources", key, name], amount.clone());
            added.push(name.clone());
        }
    }
    added.sort();
    added
}

/// Everything by which an object breaks one entry of a range.
fn breaches(limit: &Value, object: &Value, is_claim: bool) -> Vec<String> {
    match (value::text(limit, "type"), is_claim) {
        (kind @ "PersistentVolumeClaim", true) => {
            bounds::of_requests(kind, limit, &amounts(object, "spec.resources.requests"))
        }
        (kind @ "Container", false) => LISTS
            .iter()
            .flat_map(|(list, _)| value::list(object, &format!("spec.{list}")))
            .flat_map(|container| {
                let asked = Asked {
                    requests: amounts(container, "resources.requests"),
                    limits: amounts(container, "resources.limits"),
                };
                bounds::of(kind, limit, &asked)
            })
            .collect(),
        (kind @ "Pod", false) => bounds::of(kind, limit, &in_all(object)),
        _ => Vec::new(),
    }
}

/// What a pod asks for in all, its overhead aside.
fn in_all(pod: &Value) -> Asked {
    let spec = serde_json::from_value::<PodSpec>(value::get(pod, "spec").clone());
    // The pod was validated already: what is not of its type never gets here.
    let mut spec = spec.unwrap_or_default();
    spec.overhead = None;
    Asked {
        requests: pod::requests(&spec),
        limits: pod::limits(&spec),
    }
}

fn amounts(holder: &Value, path: &str) -> Amounts {
    let read = |(name, amount): (&String, &Value)| Some((name.clone(), Quantity::from_json(amount).ok()?));
    value::entries(holder, path)
        .filter_map(read)
        .collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use api::request::User;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn admit(plural: &str, limits: Value, mut object: Value) -> Result<Value, String> {
        let range = json!({"metadata": {"name": "r", "namespace": "shop"}, "spec": {"limits": limits}});
        let world = Fixed::new(vec![("", "limitranges", range)]);
        let user = User::default();
        let mut review = creation("", plural, &user, &mut object);
        LimitRanger.admit(&mut review, &world).map_err(|s| s.message)?;
        LimitRanger.validate(&review, &world).map_err(|s| s.message)?;
        Ok(object)
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "resources": resources}]}})
    }

    #[test]
    fn containers_that_say_nothing_get_defaults() {
        let limits = json!([{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "500m"}}]);
        let pod = admit("pods", limits, pod(json!({"limits": {"cpu": "2"}}))).unwrap();
        let resources = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(
            *resources,
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; memory limit for container a"
        );
    }

    #[test]
    fn bounds_hold_for_containers_pods_and_claims() {
        let of = |limits, resources| admit("pods", limits, pod(resources)).unwrap_err();
        let max = json!([{"type": "Container", "max": {"cpu": "1"}}]);
        assert_eq!(
            of(max.clone(), json!({"limits": {"cpu": "2"}})),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
        );
        assert_eq!(
            of(max, json!({})),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 1.  No limit is specified"
        );
        let both = json!([{"type": "Pod", "min": {"cpu": "1", "memory": "1Gi"}}]);
        assert_eq!(
            of(both, json!({"requests": {"cpu": "100m"}})),
            "pods \"p\" is forbidden: [minimum cpu usage per Pod is 1, but request is 100m, minimum memory usage per \
             Pod is 1Gi.  No request is specified]"
        );
        let storage = json!([{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]);
        let claim =
            json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            admit("persistentvolumeclaims", storage, claim).unwrap_err(),
            "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but \
             request is 2Gi"
        );
    }

    #[test]
    fn limits_may_exceed_requests_only_so_much() {
        let limits = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
        let of = |request: &str| {
            let resources = json!({"requests": {"cpu": request}, "limits": {"cpu": "1"}});
            admit("pods", limits.clone(), pod(resources)).map(drop)
        };
        of("500m").unwrap();
        assert_eq!(
            of("250m").unwrap_err(),
            "pods \"p\" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"
        );
    }
}
