//! Priority: a pod's priority class, as a number.

use api::object;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";

/// The plugin.
pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is("", "pods") {
            return Ok(());
        }
        match (review.operation, review.old) {
            (Operation::Create, _) => on_create(review, world),
            (Operation::Update, Some(old)) => {
                let Some(pod) = review.object.as_deref_mut() else {
                    return Ok(());
                };
                // A client that does not know the fields must not drop them.
                for path in ["spec.priority", "spec.preemptionPolicy"] {
                    if !value::has(pod, path) {
                        value::keep(pod, old, path);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is(GROUP, CLASSES) || review.operation == Operation::Delete {
            return Ok(());
        }
        let Some(class) = review
            .object
            .as_deref()
            .filter(|c| value::flag(c, "globalDefault"))
        else {
            return Ok(());
        };
        let other = world
            .all(GROUP, CLASSES, "")
            .into_iter()
            .find(|other| value::flag(other, "globalDefault") && object::name(other) != object::name(class));
        match other {
            Some(other) => Err(review.forbid(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                object::name(&other)
            ))),
            None => Ok(()),
        }
    }
}

fn on_create(review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
    let Some(pod) = review.object.as_deref_mut() else {
        return Ok(());
    };
    let named = value::text(pod, "spec.priorityClassName").to_owned();
    let class = if named.is_empty() {
        default_class(world)
    } else {
        let found = world.find(GROUP, CLASSES, "", &named);
        let missing = || review_missing(pod, &named);
        Some(found.ok_or_else(missing)?)
    };
    let number = class.as_ref().and_then(|c| value::int(c, "value")).unwrap_or(0);
    if let Some(given) = value::int(pod, "spec.priority").filter(|given| *given != number) {
        return Err(review.forbid(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {number} from the given PriorityClass name"
        )));
    }
    object::set(pod, &["spec", "priority"], number);
    let mut policy = "PreemptLowerPriority".to_owned();
    if let Some(class) = &class {
        if named.is_empty() {
            object::set(pod, &["spec", "priorityClassName"], object::name(class));
        }
        let own = value::text(class, "preemptionPolicy");
        if !own.is_empty() {
            policy = own.to_owned();
        }
    }
    let given = value::text(pod, "spec.preemptionPolicy").to_owned();
    if !given.is_empty() && given != policy {
        return Err(review.forbid(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    object::set(pod, &["spec", "preemptionPolicy"], policy);
    Ok(())
}

fn review_missing(pod: &Value, class: &str) -> Status {
    let name = object::name(pod);
    let name = if name.is_empty() {
        object::get_str(pod, &["metadata", "generateName"])
    } else {
        name
    };
    Status::forbidden(
        "",
        "pods",
        name,
        &format!("no PriorityClass with name {class} was found"),
    )
}

/// The class of pods that name none: of several defaults, the lowest.
fn default_class(world: &dyn World) -> Option<Value> {
    let classes = world
        .all(GROUP, CLASSES, "")
        .into_iter()
        .filter(|c| value::flag(c, "globalDefault"));
    classes.min_by_key(|class| value::int(class, "value").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn world() -> Fixed {
        let class = |name: &str, value: i64, default: bool| {
            (
                GROUP,
                CLASSES,
                json!({"metadata": {"name": name}, "value": value, "globalDefault": default}),
            )
        };
        Fixed::new(vec![class("high", 1000, false), class("usual", 5, true)])
    }

    fn admit(mut pod: Value) -> Result<Value, String> {
        let user = User::default();
        Priority
            .admit(&mut creation("", "pods", &user, &mut pod), &world())
            .map_err(|s| s.message)?;
        Ok(pod)
    }

    #[test]
    fn classes_become_numbers() {
        let pod = admit(json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "high"}})).unwrap();
        assert_eq!(pod["spec"]["priority"], 1000);
        assert_eq!(pod["spec"]["preemptionPolicy"], "PreemptLowerPriority");
        let pod = admit(json!({"metadata": {"name": "a"}, "spec": {}})).unwrap();
        assert_eq!(pod["spec"]["priorityClassName"], "usual");
        assert_eq!(pod["spec"]["priority"], 5);
    }

    #[test]
    fn wrong_classes_and_numbers_are_refused() {
        let why = admit(json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "no"}})).unwrap_err();
        assert_eq!(
            why,
            "pods \"a\" is forbidden: no PriorityClass with name no was found"
        );
        let pod = json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "high", "priority": 7}});
        assert!(
            admit(pod)
                .unwrap_err()
                .contains("computed 1000 from the given PriorityClass name")
        );
    }
}
