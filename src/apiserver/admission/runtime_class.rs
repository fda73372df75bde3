//! RuntimeClass: what a pod's class adds to it, and classes that do not exist.

use api::object;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

const GROUP: &str = "node.k8s.io";
const CLASSES: &str = "runtimeclasses";

/// The plugin.
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        let Some(class) = class_of(review, world)? else {
            return Ok(());
        };
        let Some(pod) = review.object.as_deref_mut() else {
            return Ok(());
        };
        let result = overhead(pod, &class).and_then(|()| scheduling(pod, &class));
        result.map_err(|why| review.forbid(&why))
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let class = class_of(review, world)?;
        let Some(pod) = review.object.as_deref().filter(|_| concerns(review)) else {
            return Ok(());
        };
        let given = value::get(pod, "spec.overhead");
        let defined = class
            .as_ref()
            .map_or(&Value::Null, |c| value::get(c, "overhead.podFixed"));
        match (given.is_null(), defined.is_null()) {
            (false, true) => Err(review.forbid(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            (false, false) if !value::same(given, defined) => Err(review.forbid(MISMATCH)),
            _ => Ok(()),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn concerns(review: &Review<'_>) -> bool {
    review.is("", "pods") && review.operation == Operation::Create
}

fn class_of(review: &Review<'_>, world: &dyn World) -> Result<Option<Value>, Status> {
    let Some(pod) = review.object.as_deref().filter(|_| concerns(review)) else {
        return Ok(None);
    };
    let name = value::text(pod, "spec.runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    let found = world.find(GROUP, CLASSES, "", name);
    let missing = || review.forbid(&format!("pod rejected: RuntimeClass {name:?} not found"));
    found.map(Some).ok_or_else(missing)
}

fn overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    let defined = value::get(class, "overhead.podFixed");
    if defined.is_null() {
        return Ok(());
    }
    let given = value::get(pod, "spec.overhead");
    if !given.is_null() && !value::same(given, defined) {
        return Err(MISMATCH.to_owned());
    }
    object::set(pod, &["spec", "overhead"], defined.clone());
    Ok(())
}

fn scheduling(pod: &mut Value, class: &Value) -> Result<(), String> {
    for (key, wanted) in value::entries(class, "scheduling.nodeSelector") {
        let given = value::get(pod, "spec.nodeSelector").get(key);
        if let Some(given) = given.filter(|given| *given != wanted) {
            let (wanted, given) = (wanted.as_str().unwrap_or(""), given.as_str().unwrap_or(""));
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            ));
        }
        object::set(pod, &["spec", "nodeSelector", key], wanted.clone());
    }
    let mut tolerations = value::list(pod, "spec.tolerations").to_vec();
    for toleration in value::list(class, "scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        object::set(pod, &["spec", "tolerations"], Value::Array(tolerations));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn admit(spec: Value) -> Result<Value, String> {
        let class = json!({"metadata": {"name": "heavy"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}},
            "scheduling": {"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "a", "operator": "Exists"}]}});
        let world = Fixed::new(vec![(GROUP, CLASSES, class)]);
        let user = User::default();
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let mut review = creation("", "pods", &user, &mut pod);
        RuntimeClass.admit(&mut review, &world).map_err(|s| s.message)?;
        RuntimeClass.validate(&review, &world).map_err(|s| s.message)?;
        Ok(pod["spec"].clone())
    }

    #[test]
    fn a_class_adds_what_it_costs_and_where_it_runs() {
        let spec = admit(json!({"runtimeClassName": "heavy"})).unwrap();
        assert_eq!(spec["overhead"], json!({"cpu": "10m"}));
        assert_eq!(spec["nodeSelector"]["disk"], "fast");
        assert_eq!(spec["tolerations"][0]["key"], "a");
        assert_eq!(admit(json!({})).unwrap(), json!({}));
    }

    #[test]
    fn what_contradicts_a_class_is_refused() {
        let why = |spec| admit(spec).unwrap_err();
        assert_eq!(
            why(json!({"runtimeClassName": "none"})),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
        );
        assert!(why(json!({"overhead": {"cpu": "1"}})).contains("without corresponding RuntimeClass"));
        let other = json!({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}});
        assert!(why(other).contains("doesn't match RuntimeClass's defined Overhead"));
        let selector = json!({"runtimeClassName": "heavy", "nodeSelector": {"disk": "slow"}});
        assert!(why(selector).contains("runtimeClass.scheduling.nodeSelector[disk] = fast"));
    }
}
