//! NodeRestriction: an agent writes its own node, its own lease and the pods on it, and nothing else.

use api::object;
use api::status::Status;
use api::value;
use serde_json::{Map, Value};

use super::{Operation, Plugin, Review, World};

/// Labels below this domain are for administrators: a node may not set them on itself.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        let groups = &review.user.groups;
        let Some(node) = review.user.name.strip_prefix("system:node:") else {
            return Ok(());
        };
        if !groups.iter().any(|group| group == "system:nodes") {
            return Ok(());
        }
        let why = match (review.kind.group, review.kind.plural, review.subresource) {
            ("", "pods", "") => pod(review, node),
            ("", "pods", "status" | "eviction") => pod_part(review, node, world),
            ("", "pods", other) => Err(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => self::node(review, node),
            ("coordination.k8s.io", "leases", _) => lease(review, node),
            ("", "serviceaccounts", "token") => token(review, node, world),
            _ => Ok(()),
        };
        why.map_err(|why| review.forbid(&why))
    }
}

fn pod(review: &Review<'_>, node: &str) -> Result<(), String> {
    let runs_here = |pod: Option<&Value>| pod.is_some_and(|pod| value::text(pod, "spec.nodeName") == node);
    match review.operation {
        Operation::Create => {
            let new = review.object.as_deref();
            if new.and_then(|pod| object::annotation(pod, MIRROR)).is_none() {
                return Err(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if !runs_here(new) {
                return Err(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            Ok(())
        }
        Operation::Delete if runs_here(review.old) => Ok(()),
        Operation::Delete => Err(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        )),
        Operation::Update | Operation::Connect => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            review.operation.name()
        )),
    }
}

fn pod_part(review: &Review<'_>, node: &str, world: &dyn World) -> Result<(), String> {
    let runs_here = |pod: &Value| value::text(pod, "spec.nodeName") == node;
    if review.subresource == "eviction" {
        let pod = world.find("", "pods", review.namespace, review.name);
        return match pod {
            Some(pod) if !runs_here(&pod) => Err(format!(
                "node {node:?} can only evict pods with spec.nodeName set to itself"
            )),
            _ => Ok(()),
        };
    }
    let (Some(new), Some(old)) = (review.object.as_deref(), review.old) else {
        return Ok(());
    };
    if !runs_here(old) {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if value::get(new, "metadata.labels") != value::get(old, "metadata.labels") {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn node(review: &Review<'_>, node: &str) -> Result<(), String> {
    let target = review.object_name();
    if target != node {
        return Err(format!("node {node:?} is not allowed to modify node {target:?}"));
    }
    if review.operation == Operation::Delete {
        return Err(format!("node {node:?} is not allowed to delete node {target:?}"));
    }
    let new = review.object.as_deref();
    if let (Operation::Update, Some(new), Some(old)) = (review.operation, new, review.old) {
        // An agent may not make itself more attractive than its administrator wants it to be.
        if !value::same(value::get(new, "spec.taints"), value::get(old, "spec.taints")) {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        if !value::same(
            value::get(new, "metadata.ownerReferences"),
            value::get(old, "metadata.ownerReferences"),
        ) {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
    }
    let none = Map::new();
    let labels_of = |node: Option<&Value>| {
        node.map_or(&none, |node| object::get_map(node, &["metadata", "labels"]))
            .clone()
    };
    let (new, old) = (labels_of(new), labels_of(review.old));
    let changed = |key: &&String| new.get(*key) != old.get(*key);
    match new
        .keys()
        .chain(old.keys())
        .filter(|key| key.contains(RESTRICTED))
        .find(changed)
    {
        Some(key) => Err(format!("is not allowed to modify labels: {key}")),
        None => Ok(()),
    }
}

fn lease(review: &Review<'_>, node: &str) -> Result<(), String> {
    if review.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if review.object_name() != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn token(review: &Review<'_>, node: &str, world: &dyn World) -> Result<(), String> {
    let Some(request) = review.object.as_deref() else {
        return Ok(());
    };
    let bound = value::get(request, "spec.boundObjectRef");
    if value::text(bound, "kind") != "Pod" || value::text(bound, "name").is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    let name = value::text(bound, "name");
    let Some(pod) = world.find("", "pods", review.namespace, name) else {
        return Err(format!("pod {name:?} not found"));
    };
    if value::text(bound, "uid") != object::uid(&pod) {
        return Err(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
             deleted and then recreated",
            value::text(bound, "uid")
        ));
    }
    if value::text(&pod, "spec.nodeName") != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn a_node_writes_only_itself_and_what_runs_on_it() {
        let user = User::new("system:node:a", &["system:nodes"]);
        let world = Fixed::new(Vec::new());
        let mut other = json!({"metadata": {"name": "b"}});
        let status = NodeRestriction
            .admit(&mut creation("", "nodes", &user, &mut other), &world)
            .unwrap_err();
        assert!(
            status
                .message
                .ends_with("node \"a\" is not allowed to modify node \"b\""),
            "{status}"
        );
        let mut own = json!({"metadata": {"name": "a", "labels": {"x": "y"}}});
        assert!(
            NodeRestriction
                .admit(&mut creation("", "nodes", &user, &mut own), &world)
                .is_ok()
        );
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a"}});
        assert!(
            NodeRestriction
                .admit(&mut creation("", "pods", &user, &mut pod), &world)
                .is_err()
        );
        let elsewhere = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "b"}});
        let mut new = elsewhere.clone();
        let mut review = creation("", "pods", &user, &mut new);
        (review.operation, review.subresource, review.name) = (Operation::Update, "status", "p");
        review.old = Some(&elsewhere);
        assert!(NodeRestriction.admit(&mut review, &world).is_err());
    }

    #[test]
    fn others_are_left_alone() {
        let user = User::new("system:kube-scheduler", &[]);
        let mut other = json!({"metadata": {"name": "b"}});
        let mut review = creation("", "nodes", &user, &mut other);
        assert!(
            NodeRestriction
                .admit(&mut review, &Fixed::new(Vec::new()))
                .is_ok()
        );
    }
}
