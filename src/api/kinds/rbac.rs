//! What the four kinds of role-based access control have in common.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::Column;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, each, fill_text, get_mut, list, same, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules for `rules`; those of a Role cannot reach paths outside the resources.
pub fn rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for rule in Field::new(role, "").items("rules") {
        if rule.get("verbs").is_blank() {
            errors.push(
                rule.get("verbs")
                    .required("verbs must contain at least one value"),
            );
        }
        let (urls, groups, resources) = (
            rule.get("nonResourceURLs"),
            rule.get("apiGroups"),
            rule.get("resources"),
        );
        if !urls.is_blank() {
            if namespaced {
                errors.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            if !groups.is_blank() || !resources.is_blank() || !rule.get("resourceNames").is_blank() {
                errors
                    .push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
            }
            continue;
        }
        if groups.is_blank() {
            errors.push(groups.required("resource rules must supply at least one api group"));
        }
        if resources.is_blank() {
            errors.push(resources.required("resource rules must supply at least one resource"));
        }
    }
    errors
}

/// Defaults of a binding: the API groups of its role and its subjects.
pub fn default_binding(binding: &mut Value) {
    if let Some(role) = get_mut(binding, "roleRef") {
        fill_text(role, "apiGroup", GROUP);
    }
    each(binding, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            fill_text(subject, "apiGroup", GROUP);
        }
    });
}

/// Rules for a binding; a ClusterRoleBinding can only give ClusterRoles.
pub fn binding(binding: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let role = Field::at(binding, "roleRef");
    if role.get("apiGroup").text() != GROUP {
        errors.push(role.get("apiGroup").not_supported(&[GROUP]));
    }
    let kinds: &[&str] = if namespaced {
        &["ClusterRole", "Role"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&role.get("kind").text()) {
        errors.push(role.get("kind").not_supported(kinds));
    }
    let name = role.get("name");
    if name.is_blank() {
        errors.push(name.required(""));
    } else {
        errors.extend(name.invalid_each(names::path_segment(name.text(), false)));
    }
    for at in Field::new(binding, "").items("subjects") {
        subject(&at, namespaced, &mut errors);
    }
    errors
}

fn subject(subject: &Field, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    if name.is_blank() {
        errors.push(name.required(""));
    }
    match subject.get("kind").text() {
        "ServiceAccount" => {
            if !name.is_blank() {
                errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
            }
            if !group.is_blank() {
                errors.push(group.not_supported(&[""]));
            }
            if !namespaced && subject.get("namespace").is_blank() {
                errors.push(subject.get("namespace").required(""));
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.push(group.not_supported(&[GROUP]));
            }
        }
        _ => errors.push(
            subject
                .get("kind")
                .not_supported(&["ServiceAccount", "User", "Group"]),
        ),
    }
}

/// The role that a binding gives can never change.
pub fn binding_update(new: &Value, old: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = binding(new, namespaced);
    let role = Field::at(new, "roleRef");
    if !same(role.value, crate::value::get(old, "roleRef")) {
        errors.push(role.invalid("cannot change roleRef"));
    }
    errors
}

/// The columns of both kinds of bindings.
pub const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role"),
    Column::AGE,
    Column::text("Users").wide(),
    Column::text("Groups").wide(),
    Column::text("ServiceAccounts").wide(),
];

/// The row of a binding.
pub fn binding_row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let [role, users, groups, accounts] = binding_cells(binding);
    vec![
        cells::name(binding),
        role,
        cells::age(binding, now),
        users,
        groups,
        accounts,
    ]
}

/// Role, then users, groups and service accounts.
fn binding_cells(binding: &Value) -> [Value; 4] {
    let named = |kind: &str| {
        let all = list(binding, "subjects")
            .iter()
            .filter(|s| text(s, "kind") == kind);
        let shown = all.map(|s| match (kind, text(s, "namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", text(s, "name")),
            _ => text(s, "name").to_owned(),
        });
        json!(shown.collect::<Vec<_>>().join(", "))
    };
    let role = format!(
        "{}/{}",
        text(binding, "roleRef.kind"),
        text(binding, "roleRef.name")
    );
    [
        json!(role),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_say_what_they_are_about() {
        assert_eq!(
            texts(rules(&json!({"rules": [{}]}), true)),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource"
            ]
        );
        let url = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        assert!(rules(&url, false).is_empty());
        assert_eq!(
            texts(rules(&url, true)),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
    }

    #[test]
    fn bindings() {
        let mut b = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        default_binding(&mut b);
        assert_eq!(b["roleRef"]["apiGroup"], GROUP);
        assert!(binding(&b, true).is_empty());
        assert_eq!(
            texts(binding(&b, false)),
            ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
        assert_eq!(binding_cells(&b), ["Role/r", "u", "", "n/s"]);
        let mut other = b.clone();
        other["roleRef"]["name"] = json!("q");
        assert!(texts(binding_update(&other, &b, true))[0].ends_with("cannot change roleRef"));
    }
}
