//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one that is marked as default.

use std::cmp::Reverse;

use api::object;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

/// For claims.
pub struct DefaultStorageClass;
/// For ingresses.
pub struct DefaultIngressClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is("", "persistentvolumeclaims") || review.operation != Operation::Create {
            return Ok(());
        }
        let classes = || world.all("storage.k8s.io", "storageclasses", "");
        let marks = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let old = "volume.beta.kubernetes.io/storage-class";
        fill(
            review.object.as_deref_mut(),
            "storageClassName",
            old,
            classes,
            &marks,
        );
        Ok(())
    }
}

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is("networking.k8s.io", "ingresses") || review.operation != Operation::Create {
            return Ok(());
        }
        let classes = || world.all("networking.k8s.io", "ingressclasses", "");
        let marks = ["ingressclass.kubernetes.io/is-default-class"];
        let old = "kubernetes.io/ingress.class";
        fill(
            review.object.as_deref_mut(),
            "ingressClassName",
            old,
            classes,
            &marks,
        );
        Ok(())
    }
}

/// Names the default class in `spec.KEY`, unless one is named there (the empty one included) or in an old annotation.
fn fill(
    object: Option<&mut Value>,
    key: &str,
    annotation: &str,
    classes: impl Fn() -> Vec<Value>,
    marks: &[&str],
) {
    let Some(object) = object else { return };
    let named = value::has(value::get(object, "spec"), key);
    if named || object::annotation(object, annotation).is_some() {
        return;
    }
    if let Some(class) = default_of(&classes(), marks) {
        object::set(object, &["spec", key], object::name(class));
    }
}

/// The newest class that is marked as default, by name among those of one moment.
fn default_of<'a>(classes: &'a [Value], marks: &[&str]) -> Option<&'a Value> {
    let is_marked = |class: &&Value| {
        let says = |mark: &&str| object::annotation(class, mark) == Some("true");
        marks.iter().any(says)
    };
    let order = |class: &&Value| {
        let made = value::text(class, "metadata.creationTimestamp");
        (made.to_owned(), Reverse(object::name(class).to_owned()))
    };
    classes.iter().filter(is_marked).max_by_key(order)
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn class(name: &str, made: &str, default: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
    }

    fn claim(spec: Value, classes: Vec<Value>) -> Value {
        let stored = classes
            .into_iter()
            .map(|class| ("storage.k8s.io", "storageclasses", class));
        let world = Fixed::new(stored.collect());
        let user = User::default();
        let mut claim = json!({"metadata": {"name": "c"}, "spec": spec});
        let mut review = creation("", "persistentvolumeclaims", &user, &mut claim);
        DefaultStorageClass.admit(&mut review, &world).unwrap();
        claim["spec"]["storageClassName"].clone()
    }

    #[test]
    fn the_newest_default_is_taken_by_who_names_none() {
        let classes = || {
            vec![
                class("b", "2026-01-02T00:00:00Z", "true"),
                class("a", "2026-01-02T00:00:00Z", "true"),
                class("old", "2026-01-01T00:00:00Z", "true"),
                class("no", "2026-01-03T00:00:00Z", "false"),
            ]
        };
        assert_eq!(claim(json!({}), classes()), "a");
        assert_eq!(claim(json!({"storageClassName": ""}), classes()), "");
        assert_eq!(claim(json!({}), Vec::new()), Value::Null);
    }

    #[test]
    fn an_ingress_may_name_its_class_the_old_way() {
        let marked = json!({"metadata": {"name": "main",
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
        let world = Fixed::new(vec![("networking.k8s.io", "ingressclasses", marked)]);
        let user = User::default();
        let admit = |mut ingress: Value| {
            let mut review = creation("networking.k8s.io", "ingresses", &user, &mut ingress);
            DefaultIngressClass.admit(&mut review, &world).unwrap();
            ingress["spec"]["ingressClassName"].clone()
        };
        assert_eq!(admit(json!({"metadata": {"name": "i"}, "spec": {}})), "main");
        let old = json!({"metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
        assert_eq!(admit(old), Value::Null);
    }
}
