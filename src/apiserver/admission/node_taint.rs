//! TaintNodesByCondition: a new node takes no pods until it is ready.

use api::object;
use api::status::Status;
use api::value;
use serde_json::{Value, json};

use super::plugin::{Operation, Plugin, Review, World};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(&self, review: &mut Review<'_>, _: &dyn World) -> Result<(), Status> {
        if !review.is("", "nodes") || review.operation != Operation::Create {
            return Ok(());
        }
        let Some(node) = review.object.as_deref_mut() else {
            return Ok(());
        };
        let is_it = |taint: &Value| {
            value::text(taint, "key") == NOT_READY && value::text(taint, "effect") == "NoSchedule"
        };
        let taints = value::list(node, "spec.taints");
        if taints.iter().any(is_it) {
            return Ok(());
        }
        let mut taints = taints.to_vec();
        taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        object::set(node, &["spec", "taints"], taints);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use api::request::User;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn a_new_node_is_tainted_once() {
        let user = User::default();
        let mut node = json!({"metadata": {"name": "n"}});
        for _ in 0..2 {
            let mut review = creation("", "nodes", &user, &mut node);
            TaintNodesByCondition
                .admit(&mut review, &Fixed::new(Vec::new()))
                .unwrap();
        }
        assert_eq!(
            node["spec"]["taints"],
            json!([{"key": NOT_READY, "effect": "NoSchedule"}])
        );
    }
}
