//! Nobody may hand out more than they hold: the checks a write of a role or a
//! binding needs besides ordinary authorisation.

use api::request::User;

use super::rules;
use crate::authz::{Attributes, Authorizer, PolicyRule, is_privileged};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether `user` may write a role with these rules: holds them all, or may `escalate`.
/// `plural` is `roles` or `clusterroles`. `Err` carries the text for a 403.
pub async fn may_write_role(
    authorizer: &dyn Authorizer,
    user: &User,
    plural: &str,
    namespace: &str,
    name: &str,
    wanted: &[PolicyRule],
) -> Result<(), String> {
    if is_privileged(user) || allowed(authorizer, user, "escalate", plural, namespace, name).await {
        return Ok(());
    }
    holds(authorizer, user, namespace, wanted)
}

/// Whether `user` may bind that role: holds all its rules, or may `bind` it. The role is a
/// `ClusterRole` when `role_namespace` is empty; `namespace` is the binding's (empty: cluster-wide).
pub async fn may_bind_role(
    authorizer: &dyn Authorizer,
    user: &User,
    namespace: &str,
    role_namespace: &str,
    role: &str,
) -> Result<(), String> {
    let plural = if role_namespace.is_empty() {
        "clusterroles"
    } else {
        "roles"
    };
    if is_privileged(user) || allowed(authorizer, user, "bind", plural, namespace, role).await {
        return Ok(());
    }
    let Some(wanted) = authorizer.role_rules(role_namespace, role) else {
        let singular = plural.trim_end_matches('s');
        return Err(format!("{singular}.{GROUP} {role:?} not found"));
    };
    holds(authorizer, user, namespace, &wanted)
}

async fn allowed(
    authorizer: &dyn Authorizer,
    user: &User,
    verb: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let asked = Attributes {
        user: user.clone(),
        verb: verb.to_owned(),
        resource_request: true,
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: plural.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    authorizer.settle(&asked).await.allowed
}

fn holds(
    authorizer: &dyn Authorizer,
    user: &User,
    namespace: &str,
    wanted: &[PolicyRule],
) -> Result<(), String> {
    let held = authorizer.rules(user, namespace).rules;
    let missing = rules::compact(rules::uncovered(&held, wanted));
    if missing.is_empty() {
        return Ok(());
    }
    let mut list: Vec<String> = missing.iter().map(rules::text).collect();
    list.sort();
    Err(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        rules::quoted(&user.groups),
        list.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::Rbac;

    #[tokio::test]
    async fn granting_more_than_one_holds_is_refused_in_kubernetes_words() {
        let rbac = Rbac::with_defaults();
        let editor = User::new("eve", &["system:authenticated"]);
        let binding =
            r#"{"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"User","name":"eve"}]}"#;
        rbac.take("rolebindings", "a", "b", Some(binding.as_bytes()));
        assert_eq!(may_bind_role(&rbac, &editor, "a", "", "view").await, Ok(()));
        let refused = may_bind_role(&rbac, &editor, "a", "", "cluster-admin")
            .await
            .unwrap_err();
        assert!(refused.starts_with(
            "user \"eve\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"
        ));
        let rule = PolicyRule {
            verbs: vec!["get".into()],
            api_groups: vec!["".into()],
            resources: vec!["nodes".into()],
            ..PolicyRule::default()
        };
        let rules = [rule];
        assert!(
            may_write_role(&rbac, &editor, "roles", "a", "r", &rules)
                .await
                .is_err()
        );
        let admin = User::new("root", &["system:masters"]);
        assert!(
            may_write_role(&rbac, &admin, "roles", "a", "r", &rules)
                .await
                .is_ok()
        );
    }
}
