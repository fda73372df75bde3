//! What a node may read beyond its fixed rules: only what its own pods need.
//! (Kubernetes' node authoriser; here each question looks at the node's pods.)

use std::sync::Arc;

use api::{references, storage};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use serde_json::Value;

use crate::authz::Attributes;
use crate::lookup::{Found, Lookup};

/// The node's name when the user is one.
pub fn node_name(asked: &Attributes) -> Option<&str> {
    let name = asked.user.name.strip_prefix("system:node:")?;
    let member = asked.user.groups.iter().any(|group| group == "system:nodes");
    (member && !name.is_empty()).then_some(name)
}

/// What the node authoriser says; `Err` with a reason means that other rules decide.
pub fn decide(lookup: &Arc<dyn Lookup>, node: &str, asked: &Attributes) -> Result<(), String> {
    let verb = asked.verb.as_str();
    let reads = matches!(verb, "get" | "list" | "watch");
    match (
        asked.group.as_str(),
        asked.resource.as_str(),
        asked.subresource.as_str(),
    ) {
        ("", "secrets", "") if verb == "get" && is_for_volume(lookup, node, asked) => Ok(()),
        ("", "secrets" | "configmaps", "") if reads => related(lookup, node, asked),
        ("", "persistentvolumeclaims", "" | "status") if verb == "get" || verb == "patch" => {
            related(lookup, node, asked)
        }
        ("", "persistentvolumes", "") => volumes(lookup, node, asked),
        ("", "serviceaccounts", "token") if verb == "create" => related(lookup, node, asked),
        ("", "serviceaccounts", "") if verb == "get" => related(lookup, node, asked),
        ("", "pods", _) => pods(lookup, node, asked),
        ("", "nodes", sub @ ("" | "status")) => own_node(node, asked, sub),
        ("coracle.dev", "nodes", "connect") => named(node, asked),
        ("coordination.k8s.io", "leases", "") => {
            if asked.namespace != "kube-node-lease" {
                return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
            }
            if verb == "create" {
                Ok(())
            } else {
                named(node, asked)
            }
        }
        ("storage.k8s.io", "csinodes", "") if verb != "create" => named(node, asked),
        _ => fixed(asked),
    }
}

fn named(node: &str, asked: &Attributes) -> Result<(), String> {
    if asked.name == node {
        Ok(())
    } else {
        Err("can only access node-specific objects of the same name".into())
    }
}

fn own_node(node: &str, asked: &Attributes, subresource: &str) -> Result<(), String> {
    match (asked.verb.as_str(), subresource) {
        ("create", "") => Ok(()),
        // Pod networking needs the other nodes' addresses and pod ranges.
        ("get" | "list" | "watch", "") => Ok(()),
        ("update" | "patch", _) => named(node, asked),
        _ => Err(String::new()),
    }
}

fn pods(lookup: &Arc<dyn Lookup>, node: &str, asked: &Attributes) -> Result<(), String> {
    match (asked.verb.as_str(), asked.subresource.as_str()) {
        ("list" | "watch", "") => {
            if asked.narrowing.field_is("spec.nodeName", node) {
                return Ok(());
            }
            Err(format!(
                "can only list/watch pods with spec.nodeName field selector for node {node:?}"
            ))
        }
        ("create", "") => Ok(()),
        ("get" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => {
            let pod = lookup.find("", "pods", &asked.namespace, &asked.name);
            // A pod that is gone may be asked for: the answer is 404, which the node needs.
            let mine = pod.is_none_or(|found| {
                let pod: Value = serde_json::from_slice(&found.text).unwrap_or_default();
                pod["spec"]["nodeName"].as_str() == Some(node)
            });
            if mine { Ok(()) } else { Err(no_relation(node)) }
        }
        _ => Err(String::new()),
    }
}

fn no_relation(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn related(lookup: &Arc<dyn Lookup>, node: &str, asked: &Attributes) -> Result<(), String> {
    if asked.name.is_empty() {
        return Err("No Object name found".into());
    }
    let pods = lookup.selected("", "pods", &asked.namespace, "spec.nodeName", node);
    let needed = pods.iter().any(|found| {
        let pod: Value = serde_json::from_slice(&found.text).unwrap_or_default();
        match asked.resource.as_str() {
            "serviceaccounts" => pod["spec"]["serviceAccountName"].as_str() == Some(&asked.name),
            "persistentvolumeclaims" if is_own_claim(&pod, &asked.name) => true,
            resource => references::of(&pod, resource).contains(&asked.name.as_str()),
        }
    });
    if needed { Ok(()) } else { Err(no_relation(node)) }
}

/// Whether a volume that a pod of the node uses names the secret, for its driver.
fn is_for_volume(lookup: &Arc<dyn Lookup>, node: &str, asked: &Attributes) -> bool {
    let read = |found: Found| serde_json::from_slice::<Value>(&found.text).unwrap_or_default();
    let names = |volume: &Value| {
        [
            "nodeStageSecretRef",
            "nodePublishSecretRef",
            "nodeExpandSecretRef",
        ]
        .iter()
        .map(|key| &volume["spec"]["csi"][key])
        .any(|named| {
            named["name"].as_str() == Some(&asked.name)
                && named["namespace"].as_str() == Some(&asked.namespace)
        })
    };
    let volumes = lookup
        .selected("", "persistentvolumes", "", "", "")
        .into_iter()
        .map(read);
    // Few volumes name secrets; only what one does is worth a look at the pods.
    let claims = volumes
        .filter(names)
        .map(|volume| volume["spec"]["claimRef"].clone());
    claims.into_iter().any(|claim| {
        let part = |key: &str| claim[key].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (part("namespace"), part("name"));
        let pods = lookup.selected("", "pods", &namespace, "spec.nodeName", node);
        pods.into_iter().map(read).any(|pod| {
            let pod: Pod = serde_json::from_value(pod).unwrap_or_default();
            storage::claims_of(&pod).any(|(used, _)| used == name)
        })
    })
}

/// Whether a claim is named as one that is made for a generic ephemeral volume of the pod.
fn is_own_claim(pod: &Value, claim: &str) -> bool {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap_or_default();
    api::storage::claims_of(&pod).any(|(name, own)| own && name == claim)
}

/// A node follows single volumes, and removes what the built-in provisioner made on it once that is released.
fn volumes(lookup: &Arc<dyn Lookup>, node: &str, asked: &Attributes) -> Result<(), String> {
    let found = || lookup.find("", "persistentvolumes", "", &asked.name);
    match asked.verb.as_str() {
        "get" => Ok(()),
        "list" | "watch" if !asked.name.is_empty() => Ok(()),
        "list" | "watch" => Err("can only list/watch single persistentvolumes by name".into()),
        // One that is gone may be asked for: the answer is 404, which the node needs.
        "delete" if found().is_none_or(|found| is_done_with(lookup, node, &found.text)) => Ok(()),
        "delete" => Err("can only delete its own released volumes of the built-in provisioner".into()),
        _ => Err(String::new()),
    }
}

fn is_done_with(lookup: &Arc<dyn Lookup>, node: &str, volume: &[u8]) -> bool {
    let volume: PersistentVolume = serde_json::from_slice(volume).unwrap_or_default();
    let node = lookup.find("", "nodes", "", node);
    let node = node.and_then(|found| serde_json::from_slice::<Node>(&found.text).ok());
    storage::note(&volume.metadata, storage::PROVISIONED_BY) == storage::LOCAL_PATH
        && storage::volume_phase(&volume) == "Released"
        && volume
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_affinity.is_some())
        && node.is_some_and(|node| storage::reaches(&volume, &node))
}

/// What every node may do, whatever runs on it.
fn fixed(asked: &Attributes) -> Result<(), String> {
    let verb = asked.verb.as_str();
    let reads = matches!(verb, "get" | "list" | "watch");
    let writes = matches!(verb, "create" | "update" | "patch");
    let allowed = match (
        asked.group.as_str(),
        asked.resource.as_str(),
        asked.subresource.as_str(),
    ) {
        ("authentication.k8s.io", "tokenreviews", "") => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            verb == "create"
        }
        ("", "services", "") => reads,
        ("", "events", "") | ("events.k8s.io", "events", "") => writes,
        ("", "endpoints", "") => verb == "get",
        ("certificates.k8s.io", "certificatesigningrequests", "") => reads || verb == "create",
        ("certificates.k8s.io", "certificatesigningrequests", "selfnodeclient") => verb == "create",
        ("storage.k8s.io", "volumeattachments", "") => verb == "get",
        ("storage.k8s.io", "csidrivers", "") => reads,
        ("storage.k8s.io", "csinodes", "") => verb == "create",
        ("node.k8s.io", "runtimeclasses", "") => reads,
        _ => false,
    };
    if allowed { Ok(()) } else { Err(String::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::narrowing::Narrowing;
    use crate::lookup::tests::Fixed;
    use api::request::User;
    use serde_json::json;

    fn lookup() -> Arc<dyn Lookup> {
        let pod = json!({"metadata": {"name": "web", "namespace": "a", "uid": "1"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "bot",
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env-secret"}}}]}],
            "volumes": [{"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}}]}});
        Arc::new(Fixed::default().with("", "pods", pod))
    }

    fn ask(verb: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            user: User::new("system:node:n1", &["system:nodes"]),
            verb: verb.into(),
            resource_request: true,
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "a".into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_node_reads_what_its_pods_name_and_nothing_else() {
        let lookup = lookup();
        for (verb, resource, sub, name, expected) in [
            ("get", "secrets", "", "env-secret", true),
            ("get", "secrets", "", "other", false),
            ("list", "secrets", "", "", false),
            ("get", "configmaps", "", "kube-root-ca.crt", true),
            ("create", "serviceaccounts", "token", "bot", true),
            ("create", "serviceaccounts", "token", "admin", false),
            ("patch", "pods", "status", "web", true),
            ("get", "pods", "", "gone", true),
            ("list", "pods", "", "", false),
            ("patch", "nodes", "status", "n1", true),
            ("patch", "nodes", "status", "n2", false),
            ("delete", "nodes", "", "n1", false),
        ] {
            let asked = ask(verb, resource, sub, name);
            assert_eq!(
                decide(&lookup, "n1", &asked).is_ok(),
                expected,
                "{verb} {resource}/{sub} {name}"
            );
        }
        let mut list = ask("list", "pods", "", "");
        list.narrowing = Narrowing::of_texts("spec.nodeName=n1", "");
        assert!(decide(&lookup, "n1", &list).is_ok());
        let other = decide(&lookup, "n2", &ask("get", "secrets", "", "env-secret")).unwrap_err();
        assert_eq!(other, "no relationship found between node 'n2' and this object");
    }

    #[test]
    fn a_node_reads_what_drivers_of_its_volumes_need() {
        let pod = json!({"metadata": {"name": "db", "namespace": "a"}, "spec": {"nodeName": "n1",
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "a", "name": "data"},
            "csi": {"nodeStageSecretRef": {"name": "key", "namespace": "drivers"}}}});
        let lookup: Arc<dyn Lookup> = Arc::new(Fixed::default().with("", "pods", pod).with(
            "",
            "persistentvolumes",
            volume,
        ));
        let may = |node: &str, namespace: &str, verb: &str| {
            let asked = Attributes {
                namespace: namespace.to_owned(),
                ..ask(verb, "secrets", "", "key")
            };
            decide(&lookup, node, &asked).is_ok()
        };
        assert!(may("n1", "drivers", "get"));
        assert!(!may("n1", "drivers", "watch"));
        assert!(!may("n1", "a", "get"));
        assert!(!may("n2", "drivers", "get"));
    }

    #[test]
    fn a_node_removes_only_its_own_released_folders() {
        let volume = |name: &str, phase: &str, host: &str, by: &str| {
            json!({"metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": by}},
                "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}},
                "status": {"phase": phase}})
        };
        let labels = json!({"kubernetes.io/hostname": "n1"});
        let lookup = Fixed::default()
            .with("", "nodes", json!({"metadata": {"name": "n1", "labels": labels}}))
            .with(
                "",
                "persistentvolumes",
                volume("mine", "Released", "n1", "coracle.dev/local-path"),
            )
            .with(
                "",
                "persistentvolumes",
                volume("bound", "Bound", "n1", "coracle.dev/local-path"),
            )
            .with(
                "",
                "persistentvolumes",
                volume("yours", "Released", "n2", "coracle.dev/local-path"),
            )
            .with("", "persistentvolumes", volume("other", "Released", "n1", "else"));
        let lookup: Arc<dyn Lookup> = Arc::new(lookup);
        for (verb, name, expected) in [
            ("delete", "mine", true),
            ("delete", "bound", false),
            ("delete", "yours", false),
            ("delete", "other", false),
            ("delete", "gone", true),
            ("get", "yours", true),
            ("watch", "mine", true),
            ("watch", "", false),
            ("update", "mine", false),
        ] {
            let asked = Attributes {
                namespace: String::new(),
                ..ask(verb, "persistentvolumes", "", name)
            };
            assert_eq!(decide(&lookup, "n1", &asked).is_ok(), expected, "{verb} {name}");
        }
    }
}
