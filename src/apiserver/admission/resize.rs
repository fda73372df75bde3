//! PodResizeValidator and NodeDeclaredFeatureValidator: no pod is resized to what its node cannot do.

use api::pod::{self, Amounts};
use api::quantity::Quantity;
use api::status::{Cause, Status};
use api::value;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

/// The node must be able to hold the pod.
pub struct PodResizeValidator;
/// The node must say that it can do what is asked of it.
pub struct NodeDeclaredFeatureValidator;

/// What a node says that can change the CPUs of pods that have what they ask for to themselves.
const GUARANTEED_CPU: &str = "GuaranteedQoSPodCPUResize";

impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let Some((new, node)) = resized(review, world)? else {
            return Ok(());
        };
        let system = world.labels("", "nodes", "", value::text(&node, "metadata.name"));
        let system = system.iter().find(|(key, _)| key == "kubernetes.io/os");
        if let Some((_, system)) = system.filter(|(_, system)| system != "linux") {
            let name = value::text(&node, "metadata.name");
            let why = format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
            return Err(refusal(review, &why, "UnsupportedPlatform"));
        }
        let spec = serde_json::from_value::<PodSpec>(value::get(new, "spec").clone());
        let lacking = lacking(&pod::requests(&spec.unwrap_or_default()), &node);
        if lacking.is_empty() {
            return Ok(());
        }
        let why = format!(
            "node didn't have enough allocatable resources: {}",
            lacking.join("; ")
        );
        Err(refusal(review, &why, "NodeCapacity"))
    }
}

impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let (Some((new, node)), Some(old)) = (resized(review, world)?, review.old) else {
            return Ok(());
        };
        let declared = value::list(&node, "status.declaredFeatures");
        if !resizes_guaranteed_cpu(new, old) || declared.iter().any(|feature| feature == GUARANTEED_CPU) {
            return Ok(());
        }
        Err(review.forbid(&format!(
            "pod update requires features {GUARANTEED_CPU} which are not available on node {:?}",
            value::text(&node, "metadata.name")
        )))
    }
}

/// The pod as it shall be and its node, if this is a change of the resources of one that has a node.
fn resized<'r>(review: &'r Review<'_>, world: &dyn World) -> Result<Option<(&'r Value, Value)>, Status> {
    let concerns = review.is_part("", "pods", "resize") && review.operation == Operation::Update;
    let (Some(new), Some(old), true) = (review.object.as_deref(), review.old, concerns) else {
        return Ok(None);
    };
    let name = value::text(new, "spec.nodeName");
    if name.is_empty() || value::same(value::get(new, "spec"), value::get(old, "spec")) {
        return Ok(None);
    }
    let missing = || review.forbid(&format!("node {name:?} not found"));
    let node = world.find("", "nodes", "", name).ok_or_else(missing)?;
    Ok(Some((new, node)))
}

fn refusal(review: &Review<'_>, why: &str, reason: &str) -> Status {
    let mut status = review.forbid(why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: reason.to_owned(),
        ..Cause::default()
    });
    status
}

fn lacking(requests: &Amounts, node: &Value) -> Vec<String> {
    let has = |name: &str| {
        let given = value::get(node, "status.allocatable").get(name);
        given
            .and_then(|given| Quantity::from_json(given).ok())
            .unwrap_or_default()
    };
    let asked = |name: &str| requests.get(name).copied().unwrap_or_default();
    let mut lacking = Vec::new();
    if asked("cpu") > has("cpu") {
        let (asked, has) = (asked("cpu").milli(), has("cpu").milli());
        lacking.push(format!("cpu, requested: {asked}, allocatable: {has}"));
    }
    if asked("memory") > has("memory") {
        let (asked, has) = (asked("memory").value(), has("memory").value());
        lacking.push(format!("memory, requested: {asked}, allocatable: {has}"));
    }
    lacking
}

fn resizes_guaranteed_cpu(new: &Value, old: &Value) -> bool {
    let cpu = |pod: &Value| -> Vec<Value> {
        let lists = ["spec.containers", "spec.initContainers"].into_iter();
        lists
            .flat_map(|list| value::list(pod, list))
            .map(|container| value::get(container, "resources.requests.cpu").clone())
            .collect()
    };
    value::text(old, "status.qosClass") == "Guaranteed" && cpu(new) != cpu(old)
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn pod(cpu: &str, class: &str) -> Value {
        json!({"metadata": {"name": "p"}, "status": {"qosClass": class},
            "spec": {"nodeName": "n", "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn resize(plugin: &dyn Plugin, cpu: &str, class: &str, node: Value) -> Result<(), Status> {
        let (user, old, mut new) = (User::default(), pod("1", class), pod(cpu, class));
        let mut review = creation("", "pods", &user, &mut new);
        (review.operation, review.subresource, review.old) = (Operation::Update, "resize", Some(&old));
        plugin.validate(&review, &Fixed::new(vec![("", "nodes", node)]))
    }

    fn node(status: Value) -> Value {
        json!({"metadata": {"name": "n"}, "status": status})
    }

    #[test]
    fn a_pod_stays_smaller_than_its_node() {
        let two = || node(json!({"allocatable": {"cpu": "2", "memory": "1Gi"}}));
        resize(&PodResizeValidator, "1500m", "Burstable", two()).unwrap();
        let status = resize(&PodResizeValidator, "3", "Burstable", two()).unwrap_err();
        assert_eq!(
            status.message,
            "pods \"p\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 3000, \
             allocatable: 2000"
        );
        assert_eq!(status.details.unwrap().causes[0].reason, "NodeCapacity");
        let windows = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "windows"}}});
        let status = resize(&PodResizeValidator, "2", "Burstable", windows).unwrap_err();
        assert!(status.message.ends_with("node \"n\" is \"windows\""), "{status}");
    }

    #[test]
    fn a_node_says_what_it_can_do() {
        let plugin = &NodeDeclaredFeatureValidator;
        let able = node(json!({"declaredFeatures": [GUARANTEED_CPU]}));
        resize(plugin, "2", "Guaranteed", able).unwrap();
        resize(plugin, "2", "Burstable", node(json!({}))).unwrap();
        let status = resize(plugin, "2", "Guaranteed", node(json!({}))).unwrap_err();
        assert_eq!(
            status.message,
            "pods \"p\" is forbidden: pod update requires features GuaranteedQoSPodCPUResize which are not available \
             on node \"n\""
        );
    }
}
