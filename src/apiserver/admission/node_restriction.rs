//! NodeRestriction: an agent writes its own node, its own lease and the pods on it, and nothing else.

use std::collections::BTreeSet;

use api::object;
use api::references;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::node_tokens::token;
use super::plugin::{Operation, Plugin, Review, World};

/// Labels of this namespace are for administrators: a node may not set them on itself.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of Kubernetes' own that a node may set on itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// And every one of these namespaces, and of those below them.
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

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
        if !groups.iter().any(|group| group == "system:nodes") || review.operation == Operation::Connect {
            return Ok(());
        }
        let why = match (review.kind.group, review.kind.plural, review.subresource) {
            ("", "pods", "") => pod(review, node, world),
            ("", "pods", "status") => pod_status(review, node),
            ("", "pods", "eviction") => pod_eviction(review, node, world),
            ("", "pods", other) => Err(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => self::node(review, node),
            ("", "persistentvolumeclaims", "status") => claim_status(review, node),
            ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
            ("coordination.k8s.io", "leases", _) => lease(review, node),
            ("storage.k8s.io", "csinodes", _) if review.object_name() != node => {
                Err("can only access CSINode with the same name as the requesting node".to_owned())
            }
            ("", "serviceaccounts", "token") => token(review, node, world),
            _ => Ok(()),
        };
        why.map_err(|why| review.forbid(&why))
    }
}

fn runs_on(pod: Option<&Value>, node: &str) -> bool {
    pod.is_some_and(|pod| value::text(pod, "spec.nodeName") == node)
}

fn pod(review: &Review<'_>, node: &str, world: &dyn World) -> Result<(), String> {
    match review.operation {
        Operation::Create => mirror_pod(review.object.as_deref().unwrap_or(&Value::Null), node, world),
        Operation::Delete if runs_on(review.old, node) => Ok(()),
        Operation::Delete => Err(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        )),
        Operation::Update | Operation::Connect => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            review.operation.name()
        )),
    }
}

/// A node makes only what stands for its static pods, and nothing by which it would learn of other objects.
fn mirror_pod(pod: &Value, node: &str, world: &dyn World) -> Result<(), String> {
    if object::annotation(pod, MIRROR).is_none() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if !runs_on(Some(pod), node) {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    owner(pod, node, world)?;
    let refused = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
    if !value::text(pod, "spec.serviceAccountName").is_empty() {
        return refused("a service account");
    }
    for resource in ["secrets", "configmaps"] {
        if !references::of(pod, resource).is_empty() {
            return refused(resource);
        }
    }
    let bundles = |volume: &Value| {
        let sources = value::list(volume, "projected.sources").iter();
        sources
            .clone()
            .any(|source| value::has(source, "clusterTrustBundle"))
    };
    if value::list(pod, "spec.volumes").iter().any(bundles) {
        return refused("clustertrustbundles");
    }
    if !references::of(pod, "persistentvolumeclaims").is_empty() {
        return refused("persistentvolumeclaims");
    }
    Ok(())
}

/// It belongs to the node, and so goes with it.
fn owner(pod: &Value, node: &str, world: &dyn World) -> Result<(), String> {
    let only = |how: &str| Err(format!("node {node:?} can only create pods with {how}"));
    let owner = match object::owner_references(pod) {
        [] => return only("an owner reference set to itself"),
        [one] => one,
        _ => return only("a single owner reference set to itself"),
    };
    let says = |key: &str| value::text(owner, key);
    if (says("apiVersion"), says("kind"), says("name")) != ("v1", "Node", node) {
        return only("an owner reference set to itself");
    }
    if !value::flag(owner, "controller") {
        return only("a controller owner reference set to itself");
    }
    if value::flag(owner, "blockOwnerDeletion") {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let Some(live) = world.find("", "nodes", "", node) else {
        return Err(format!("nodes {node:?} not found"));
    };
    if says("uid") != object::uid(&live) {
        return Err(format!(
            "node {node} UID mismatch: expected {} got {}",
            says("uid"),
            object::uid(&live)
        ));
    }
    Ok(())
}

fn pod_eviction(review: &Review<'_>, node: &str, world: &dyn World) -> Result<(), String> {
    let pod = world.find("", "pods", review.namespace, review.object_name());
    match pod {
        Some(pod) if !runs_on(Some(&pod), node) => Err(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
        _ => Ok(()),
    }
}

fn pod_status(review: &Review<'_>, node: &str) -> Result<(), String> {
    let (Some(new), Some(old), Operation::Update) = (review.object.as_deref(), review.old, review.operation)
    else {
        return Err(format!("unexpected operation {:?}", review.operation.name()));
    };
    if !runs_on(Some(old), node) {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let same = |path| value::same(value::get(new, path), value::get(old, path));
    if !same("metadata.labels") {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !same("status.resourceClaimStatuses") {
        return Err(format!("node {node:?} cannot update resource claim statues"));
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
    let Some(new) = review.object.as_deref() else {
        return Ok(());
    };
    let Some(old) = review.old else {
        let wrong = forbidden_labels(new, &Value::Null);
        if wrong.is_empty() {
            return Ok(());
        }
        return Err(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            wrong.join(", ")
        ));
    };
    // An agent may not make itself more attractive than its administrator wants it to be.
    for (path, what) in [
        ("spec.taints", "taints"),
        ("metadata.ownerReferences", "ownerReferences"),
    ] {
        if !value::same(value::get(new, path), value::get(old, path)) {
            return Err(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    let wrong = forbidden_labels(new, old);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("is not allowed to modify labels: {}", wrong.join(", ")))
}

/// The labels that differ and are not the node's to change.
fn forbidden_labels<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let keys: BTreeSet<&str> = object::labels(new)
        .chain(object::labels(old))
        .map(|(key, _)| key)
        .collect();
    let differs = |key: &&str| object::label(new, key) != object::label(old, key);
    keys.into_iter()
        .filter(|key| differs(key) && is_forbidden(key))
        .collect()
}

fn is_forbidden(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else {
        return false;
    };
    let within = |domain: &str| {
        let above = namespace.strip_suffix(domain);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    if within(RESTRICTED) {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    kubernetes && !OWN_LABELS.contains(&key) && !OWN_NAMESPACES.iter().any(|own| within(own))
}

/// How large a claim's volume is, is found out where it is mounted; nothing else of it is a node's to say.
fn claim_status(review: &Review<'_>, node: &str) -> Result<(), String> {
    let (Some(new), Some(old), Operation::Update) = (review.object.as_deref(), review.old, review.operation)
    else {
        return Err(format!("unexpected operation {:?}", review.operation.name()));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for key in [
            "capacity",
            "conditions",
            "allocatedResourceStatuses",
            "allocatedResources",
        ] {
            object::remove(&mut claim, &["status", key]);
        }
        for key in ["resourceVersion", "managedFields"] {
            object::remove(&mut claim, &["metadata", key]);
        }
        claim
    };
    if value::same(&rest(new), &rest(old)) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
    ))
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

    fn refused(plural: &str, mut object: Value) -> String {
        let user = User::new("system:node:a", &["system:nodes"]);
        let world = Fixed::new(vec![(
            "",
            "nodes",
            json!({"metadata": {"name": "a", "uid": "u1"}}),
        )]);
        let mut review = creation("", plural, &user, &mut object);
        let result = NodeRestriction.admit(&mut review, &world);
        result.err().map(|status| status.message).unwrap_or_default()
    }

    #[test]
    fn a_node_labels_itself_with_what_is_its_own() {
        let node = |labels: Value| refused("nodes", json!({"metadata": {"name": "a", "labels": labels}}));
        let fine = json!({"disk": "ssd", "example.com/x": "y", "kubernetes.io/os": "linux",
            "size.node.kubernetes.io/x": "y"});
        assert_eq!(node(fine), "");
        assert_eq!(
            node(json!({"node-restriction.kubernetes.io/pci": "1", "app.kubernetes.io/name": "x"})),
            "nodes \"a\" is forbidden: node \"a\" is not allowed to set the following labels: \
             app.kubernetes.io/name, node-restriction.kubernetes.io/pci"
        );
    }

    #[test]
    fn mirror_pods_belong_to_their_node_and_name_nothing() {
        let pod = |owner: Value, spec: Value| {
            let mut spec = spec;
            spec["nodeName"] = "a".into();
            refused(
                "pods",
                json!({"metadata": {"name": "p", "annotations": {MIRROR: "1"}, "ownerReferences": owner}, "spec": spec}),
            )
        };
        let own =
            || json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u1", "controller": true}]);
        assert_eq!(pod(own(), json!({})), "");
        assert!(pod(json!([]), json!({})).ends_with("with an owner reference set to itself"));
        let mut stale = own();
        stale[0]["uid"] = "u0".into();
        assert!(pod(stale, json!({})).ends_with("node a UID mismatch: expected u0 got u1"));
        let secret = json!({"volumes": [{"secret": {"secretName": "s"}}]});
        assert!(pod(own(), secret).ends_with("can not create pods that reference secrets"));
        let account = json!({"serviceAccountName": "x"});
        assert!(pod(own(), account).ends_with("can not create pods that reference a service account"));
    }
}
