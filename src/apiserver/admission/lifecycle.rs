//! NamespaceLifecycle: nothing is made in a namespace that does not exist or
//! is going away, and three namespaces cannot go.

use api::status::{Cause, Status};

use super::plugin::{Operation, Plugin, Review, World};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        let namespaces = review.is("", "namespaces");
        if namespaces && review.operation == Operation::Delete && IMMORTAL.contains(&review.name) {
            return Err(review.forbid("this namespace may not be deleted"));
        }
        // Asking who may do what in a namespace is allowed before the namespace is there.
        let review_kind = review.kind.group == "authorization.k8s.io";
        if !review.kind.namespaced || review_kind || review.operation != Operation::Create {
            return Ok(());
        }
        match world.namespace_phase(review.namespace).as_deref() {
            None => Err(Status::not_found("", "namespaces", review.namespace)),
            Some("Terminating") => Err(terminating(review)),
            Some(_) => Ok(()),
        }
    }
}

fn terminating(review: &Review<'_>) -> Status {
    let namespace = review.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = review.forbid(&why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    status
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn the_namespace_must_be_there_and_stay() {
        let user = User::default();
        let mut pod = json!({"metadata": {"generateName": "web-"}});
        let world = Fixed::new(Vec::new());
        let status = NamespaceLifecycle
            .admit(&mut creation("", "pods", &user, &mut pod), &world)
            .unwrap_err();
        assert_eq!(
            (status.code, status.message.as_str()),
            (404, "namespaces \"shop\" not found")
        );
        let namespace = json!({"metadata": {"name": "shop"}, "status": {"phase": "Terminating"}});
        let world = Fixed::new(vec![("", "namespaces", namespace)]);
        let status = NamespaceLifecycle
            .admit(&mut creation("", "pods", &user, &mut pod), &world)
            .unwrap_err();
        assert_eq!(
            status.message,
            "pods \"web-\" is forbidden: unable to create new content in namespace shop because it is being terminated"
        );
    }

    #[test]
    fn some_namespaces_stay_for_ever() {
        let user = User::default();
        let mut nothing = json!({});
        let mut review = creation("", "namespaces", &user, &mut nothing);
        (review.operation, review.name, review.object) = (Operation::Delete, "kube-system", None);
        let status = NamespaceLifecycle
            .admit(&mut review, &Fixed::new(Vec::new()))
            .unwrap_err();
        assert_eq!(
            status.message,
            "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
        );
        review.name = "kube-node-lease";
        assert!(
            NamespaceLifecycle
                .admit(&mut review, &Fixed::new(Vec::new()))
                .is_ok()
        );
    }
}
