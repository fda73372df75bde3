//! The objects that a binding hands to its policy (`paramRef`).

use api::object;
use api::selector::LabelSelector;
use api::value::{get, has, text};
use serde_json::Value;

use super::policy::{Binding, Policy};
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::subject::Subject;

/// The parameters with which a policy is asked, once for each: null when it has none.
///
/// # Errors
/// Why they cannot be had, in Kubernetes' words.
pub fn of(
    policy: &Policy,
    binding: &Binding,
    subject: &Subject,
    around: Around<'_>,
) -> Result<Vec<Value>, String> {
    let reference = &binding.parameters;
    let Some((version, name)) = policy.parameters.as_ref().filter(|_| reference.is_object()) else {
        return Ok(vec![Value::Null]);
    };
    let kinds = around.kinds.all();
    let kind = kinds
        .iter()
        .find(|kind| kind.kind == *name && kind.api_version() == *version);
    let kind = kind.ok_or_else(|| format!("paramKind kind `{version}, Kind={name}` not known"))?;
    let given = text(reference, "namespace");
    let namespace = match (kind.namespaced, given) {
        (false, "") => "",
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
            );
        }
        (true, "") if subject.namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (true, "") => subject.namespace.as_str(),
        (true, given) => given,
    };
    let mut found: Vec<Value> = if has(reference, "selector") {
        let selector = LabelSelector::from_json(get(reference, "selector"));
        let mut all = around.world.all(kind.group, kind.plural, namespace);
        all.retain(|object| selector.matches(get(object, "metadata.labels")));
        all
    } else {
        let name = text(reference, "name");
        let found = around.world.find(kind.group, kind.plural, namespace, name);
        found.into_iter().collect()
    };
    for object in &mut found {
        object::set(object, &["apiVersion"], version.as_str());
    }
    if found.is_empty() && text(reference, "parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}
