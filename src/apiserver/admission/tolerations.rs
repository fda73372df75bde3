//! DefaultTolerationSeconds: pods stay for a while on a node that cannot be heard.

use api::object;
use api::status::Status;
use api::value;
use serde_json::{Value, json};

use super::{Operation, Plugin, Review, World};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The plugin.
pub struct DefaultTolerationSeconds {
    /// For how long.
    pub seconds: i64,
}

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, review: &mut Review<'_>, _: &dyn World) -> Result<(), Status> {
        if !review.is("", "pods") || review.operation == Operation::Delete {
            return Ok(());
        }
        let Some(pod) = review.object.as_deref_mut() else {
            return Ok(());
        };
        let mut tolerations = value::list(pod, "spec.tolerations").to_vec();
        let before = tolerations.len();
        for taint in TAINTS {
            if !tolerations.iter().any(|t| tolerates(t, taint)) {
                tolerations.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self.seconds,
                }));
            }
        }
        if tolerations.len() > before {
            object::set(pod, &["spec", "tolerations"], tolerations);
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    matches!(value::text(toleration, "key"), key if key.is_empty() || key == taint)
        && matches!(value::text(toleration, "effect"), "" | "NoExecute")
}

#[cfg(test)]
mod tests {
    use api::request::User;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let user = User::default();
        let own = json!({"key": TAINTS[1], "operator": "Exists", "tolerationSeconds": 5});
        let mut pod = json!({"spec": {"tolerations": [own]}});
        let plugin = DefaultTolerationSeconds { seconds: 300 };
        plugin
            .admit(
                &mut creation("", "pods", &user, &mut pod),
                &Fixed::new(Vec::new()),
            )
            .unwrap();
        let all = pod["spec"]["tolerations"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1]["key"], TAINTS[0]);
        assert_eq!(all[1]["tolerationSeconds"], 300);
    }
}
