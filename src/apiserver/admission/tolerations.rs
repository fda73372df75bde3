//! DefaultTolerationSeconds: pods stay for a while on a node that cannot be heard.

use api::object;
use api::status::Status;
use api::value;
use serde_json::{Value, json};

use super::plugin::{Operation, Plugin, Review, World};

/// For how many seconds new pods stay on a node in trouble, unless they say themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TolerationSeconds {
    /// On a node that says that it is not ready.
    pub not_ready: i64,
    /// On a node that says nothing.
    pub unreachable: i64,
}

impl Default for TolerationSeconds {
    fn default() -> Self {
        Self {
            not_ready: 300,
            unreachable: 300,
        }
    }
}

/// The plugin.
pub struct DefaultTolerationSeconds(pub TolerationSeconds);

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
        let taints = [
            ("node.kubernetes.io/not-ready", self.0.not_ready),
            ("node.kubernetes.io/unreachable", self.0.unreachable),
        ];
        for (taint, seconds) in taints {
            if !tolerations.iter().any(|t| tolerates(t, taint)) {
                tolerations.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
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
        let own =
            json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 5});
        let mut pod = json!({"spec": {"tolerations": [own]}});
        let plugin = DefaultTolerationSeconds(TolerationSeconds::default());
        plugin
            .admit(
                &mut creation("", "pods", &user, &mut pod),
                &Fixed::new(Vec::new()),
            )
            .unwrap();
        let all = pod["spec"]["tolerations"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1]["key"], "node.kubernetes.io/not-ready");
        assert_eq!(all[1]["tolerationSeconds"], 300);
    }
}
