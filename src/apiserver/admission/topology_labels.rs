//! PodTopologyLabels: a pod says in which zone and region its node is.

use api::object;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin.
pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        let Some(node) = node_of(review) else {
            return Ok(());
        };
        let of_node = world.labels("", "nodes", "", node);
        let Some(object) = review.object.as_deref_mut() else {
            return Ok(());
        };
        for (key, text) in of_node.iter().filter(|(key, _)| LABELS.contains(&key.as_str())) {
            if object::label(object, key).is_none() {
                object::set(object, &["metadata", "labels", key], text.as_str());
            }
        }
        Ok(())
    }
}

/// The node on which a pod is made, or to which it is bound (what a binding says goes on to the pod).
fn node_of<'a>(review: &'a Review<'_>) -> Option<&'a str> {
    let object: &Value = review.object.as_deref()?;
    let node = match review.operation {
        Operation::Create if review.is("", "pods") => value::text(object, "spec.nodeName"),
        Operation::Create if review.is_part("", "pods", "binding") => {
            let is_node = matches!(value::text(object, "target.kind"), "Node");
            if is_node {
                value::text(object, "target.name")
            } else {
                ""
            }
        }
        _ => "",
    };
    Some(node).filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn a_binding_carries_the_nodes_zone() {
        let labels =
            json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r", "disk": "ssd"});
        let world = Fixed::new(vec![(
            "",
            "nodes",
            json!({"metadata": {"name": "n", "labels": labels}}),
        )]);
        let user = User::default();
        let mut binding = json!({"metadata": {"name": "p", "labels": {"topology.kubernetes.io/region": "own"}},
            "target": {"kind": "Node", "name": "n"}});
        let mut review = creation("", "pods", &user, &mut binding);
        review.subresource = "binding";
        PodTopologyLabels.admit(&mut review, &world).unwrap();
        assert_eq!(
            binding["metadata"]["labels"],
            json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "own"})
        );
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}});
        PodTopologyLabels
            .admit(&mut creation("", "pods", &user, &mut pod), &world)
            .unwrap();
        assert_eq!(pod["metadata"].get("labels"), None);
    }
}
