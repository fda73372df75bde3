//! The roles and bindings every cluster starts with, read from a compact text
//! when the server starts and dropped again.

use serde_json::{Value, json};

use crate::authz::PolicyRule;

/// Annotation that lets the server bring a default role up to date.
pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const TEXT: &str = include_str!("defaults.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

/// One object of the starting set.
#[derive(Clone, Debug)]
pub struct Default {
    /// `clusterroles`, `clusterrolebindings`, `roles` or `rolebindings`.
    pub plural: &'static str,
    /// Namespace; empty for cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The object.
    pub object: Value,
}

/// The whole starting set, roles before the bindings that name them.
pub fn all() -> Vec<Default> {
    let mut reader = Reader::default();
    for line in TEXT.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            rule if line.starts_with(' ') => reader.rule(rule),
            [verb, rest @ ..] => reader.statement(verb, rest),
        }
    }
    reader.finish()
}

#[derive(std::default::Default)]
struct Reader {
    roles: Vec<(Default, Vec<PolicyRule>)>,
    bindings: Vec<Default>,
}

impl Reader {
    fn statement(&mut self, verb: &str, words: &[&str]) {
        match (verb, words) {
            ("clusterrole", [name, to @ ..]) => self.role("clusterroles", "", name, labels(to)),
            ("aggregate", [name, to @ ..]) => {
                self.role("clusterroles", "", name, labels(to));
                if let Some((role, _)) = self.roles.last_mut() {
                    let label = aggregation_label(name);
                    role.object["aggregationRule"] =
                        json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
                }
            }
            ("role", [namespace, name]) => self.role("roles", namespace, name, labels(&[])),
            ("controller", [name]) => {
                let role = format!("system:controller:{name}");
                self.role("clusterroles", "", &role, labels(&[]));
                self.bind(
                    "clusterrolebindings",
                    "",
                    &role,
                    &role,
                    &[&format!("sa:kube-system/{name}")],
                );
            }
            ("bind", [name, role, subjects @ ..]) => {
                self.bind("clusterrolebindings", "", name, role, subjects);
            }
            ("bind-in", [namespace, name, role, subjects @ ..]) => {
                self.bind("rolebindings", namespace, name, role, subjects);
            }
            _ => debug_assert!(false, "defaults.txt: {verb} {words:?}"),
        }
    }

    fn role(&mut self, plural: &'static str, namespace: &str, name: &str, labels: Value) {
        let kind = if plural == "roles" { "Role" } else { "ClusterRole" };
        let object = object(kind, namespace, name, labels);
        let role = Default {
            plural,
            namespace: namespace.into(),
            name: name.into(),
            object,
        };
        self.roles.push((role, Vec::new()));
    }

    fn bind(&mut self, plural: &'static str, namespace: &str, name: &str, role: &str, subjects: &[&str]) {
        let (kind, role_kind) = match plural {
            "rolebindings" => ("RoleBinding", "Role"),
            _ => ("ClusterRoleBinding", "ClusterRole"),
        };
        let mut object = object(kind, namespace, name, labels(&[]));
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": role});
        if !subjects.is_empty() {
            object["subjects"] = subjects.iter().filter_map(|s| subject(s)).collect();
        }
        self.bindings.push(Default {
            plural,
            namespace: namespace.into(),
            name: name.into(),
            object,
        });
    }

    fn rule(&mut self, words: &[&str]) {
        let rule = match words {
            ["events"] => resource_rule("create,patch,update", "core,events.k8s.io", "events", ""),
            [verbs, "url", paths] => PolicyRule {
                verbs: expand(verbs),
                non_resource_urls: list(paths),
                ..PolicyRule::default()
            },
            [verbs, groups, resources] => resource_rule(verbs, groups, resources, ""),
            [verbs, groups, resources, names] => resource_rule(verbs, groups, resources, names),
            _ => return debug_assert!(false, "defaults.txt: {words:?}"),
        };
        if let Some((_, rules)) = self.roles.last_mut() {
            rules.push(rule);
        }
    }

    fn finish(self) -> Vec<Default> {
        let rules_of = |role: Default, rules: Vec<PolicyRule>| {
            let mut role = role;
            role.object["rules"] = serde_json::to_value(rules).unwrap_or_default();
            role
        };
        let roles = self.roles.into_iter().map(|(role, rules)| rules_of(role, rules));
        roles.chain(self.bindings).collect()
    }
}

fn object(kind: &str, namespace: &str, name: &str, labels: Value) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": labels,
        "annotations": {AUTOUPDATE: "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata})
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn labels(to: &[&str]) -> Value {
    let mut labels = json!({BOOTSTRAPPING: "rbac-defaults"});
    for role in to.iter().filter_map(|word| word.strip_prefix("to:")) {
        labels[aggregation_label(role)] = "true".into();
    }
    labels
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "user" => Some(json!({"apiGroup": GROUP, "kind": "User", "name": name})),
        "group" => Some(json!({"apiGroup": GROUP, "kind": "Group", "name": name})),
        "sa" => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        }
        _ => None,
    }
}

fn resource_rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
    let core = |group: String| if group == "core" { String::new() } else { group };
    PolicyRule {
        verbs: expand(verbs),
        api_groups: list(groups).into_iter().map(core).collect(),
        resources: list(resources),
        resource_names: list(names),
        ..PolicyRule::default()
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn expand(verbs: &str) -> Vec<String> {
    let mut all: Vec<String> = verbs
        .split(',')
        .flat_map(|verb| match verb {
            "read" => vec!["get", "list", "watch"],
            "write" => vec!["create", "delete", "deletecollection", "patch", "update"],
            other => vec![other],
        })
        .map(str::to_owned)
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_names_a_role_that_exists() {
        let all = all();
        assert!(all.len() > 70, "{}", all.len());
        for binding in all.iter().filter(|d| d.plural.ends_with("bindings")) {
            let plural = if binding.plural == "rolebindings" {
                "roles"
            } else {
                "clusterroles"
            };
            let role = binding.object["roleRef"]["name"].as_str().unwrap();
            assert!(all.iter().any(|d| d.plural == plural && d.name == role), "{role}");
        }
    }

    #[test]
    fn rules_are_written_as_kubernetes_writes_them() {
        let all = all();
        let view = all.iter().find(|d| d.name == "view").unwrap();
        assert_eq!(
            view.object["aggregationRule"],
            json!({"clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}]})
        );
        assert_eq!(
            view.object["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"],
            "true"
        );
        let basic = all
            .iter()
            .find(|d| d.name == "system:public-info-viewer")
            .unwrap();
        assert_eq!(
            basic.object["rules"],
            json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"]}])
        );
    }
}
