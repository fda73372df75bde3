//! Roles and bindings, parsed and kept up to date; and the answers they give.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::go;
use api::request::User;
use api::selector::LabelSelector;
use serde::Deserialize;

use super::rules;
use crate::authz::{Attributes, Decision, Known, PolicyRule};

/// Who a binding is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace of a service account; empty for the binding's own.
    pub namespace: String,
}

impl Subject {
    /// Whether it means that user, in a binding of that namespace (empty for a cluster-wide one).
    fn means(&self, user: &User, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.name == self.name,
            "Group" => user.groups.contains(&self.name),
            "ServiceAccount" => {
                let namespace = self.namespace_or(namespace);
                let rest = user.name.strip_prefix("system:serviceaccount:");
                let named = rest.and_then(|r| r.split_once(':'));
                !namespace.is_empty() && named == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }

    fn namespace_or<'a>(&'a self, bindings_own: &'a str) -> &'a str {
        if self.namespace.is_empty() {
            bindings_own
        } else {
            &self.namespace
        }
    }

    fn text(&self, namespace: &str) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => {
                let name = format!("{}/{}", self.name, self.namespace_or(namespace));
                format!("{} {name:?}", self.kind)
            }
            _ => format!("{} {:?}", self.kind, self.name),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Binding {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AggregationRule {
    cluster_role_selectors: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Role {
    metadata: Metadata,
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<AggregationRule>,
    /// Rules after aggregation; computed.
    #[serde(skip)]
    effective: Arc<[PolicyRule]>,
}

/// Roles and bindings by name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    cluster_roles: HashMap<String, Role>,
    roles: HashMap<String, HashMap<String, Role>>,
    cluster_bindings: BTreeMap<String, Binding>,
    bindings: HashMap<String, BTreeMap<String, Binding>>,
}

/// One binding that applies to a user, with the rules it grants.
struct Grant<'a> {
    namespace: &'a str,
    binding: &'a str,
    role: &'a RoleRef,
    subject: &'a Subject,
    rules: Result<&'a [PolicyRule], String>,
}

impl Index {
    /// Takes in a stored object, or its removal (`text` is `None`).
    pub fn apply(&mut self, plural: &str, namespace: &str, name: &str, text: Option<&[u8]>) {
        self.put(plural, namespace, name, text);
        if plural == "clusterroles" {
            self.aggregate();
        }
    }

    /// An index of all of these: plural, namespace, name, text.
    pub fn of<'a>(objects: impl Iterator<Item = (&'a str, &'a str, &'a str, &'a [u8])>) -> Self {
        let mut index = Self::default();
        for (plural, namespace, name, text) in objects {
            index.put(plural, namespace, name, Some(text));
        }
        index.aggregate();
        index
    }

    fn put(&mut self, plural: &str, namespace: &str, name: &str, text: Option<&[u8]>) {
        match plural {
            "clusterroles" => set(&mut self.cluster_roles, name, text),
            "roles" => {
                let roles = self.roles.entry(namespace.to_owned()).or_default();
                set(roles, name, text);
                if let Some(role) = roles.get_mut(name) {
                    role.effective = role.rules.clone().unwrap_or_default().into();
                }
            }
            "clusterrolebindings" => set_ordered(&mut self.cluster_bindings, name, text),
            "rolebindings" => {
                set_ordered(self.bindings.entry(namespace.to_owned()).or_default(), name, text);
            }
            _ => {}
        }
    }

    /// Computes what every cluster role grants. Roles may be aggregated from aggregated ones
    /// (admin from edit from view), so it goes on until nothing changes.
    fn aggregate(&mut self) {
        for role in self.cluster_roles.values_mut() {
            role.effective = role.rules.clone().unwrap_or_default().into();
        }
        let aggregated: Vec<(String, Vec<LabelSelector>)> = self
            .cluster_roles
            .iter()
            .filter_map(|(name, role)| {
                let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.iter();
                let selectors = selectors.flatten().map(LabelSelector::from_json);
                Some((name.clone(), selectors.collect()))
            })
            .collect();
        for _ in 0..=aggregated.len() {
            let mut changed = false;
            for (name, selectors) in &aggregated {
                let sum = self.sum(name, selectors);
                if let Some(role) = self.cluster_roles.get_mut(name)
                    && *role.effective != *sum
                {
                    role.effective = sum.into();
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    fn sum(&self, into: &str, selectors: &[LabelSelector]) -> Vec<PolicyRule> {
        let mut names: Vec<&String> = self
            .cluster_roles
            .iter()
            .filter(|(name, role)| {
                *name != into && selectors.iter().any(|s| s.matches(&role.metadata.labels))
            })
            .map(|(name, _)| name)
            .collect();
        names.sort();
        let mut sum: Vec<PolicyRule> = Vec::new();
        for rule in names
            .iter()
            .filter_map(|n| self.cluster_roles.get(*n))
            .flat_map(|r| r.effective.iter())
        {
            if !sum.contains(rule) {
                sum.push(rule.clone());
            }
        }
        sum
    }

    /// The rules of a `ClusterRole` (`namespace` empty) or a `Role`.
    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        let roles = if namespace.is_empty() {
            &self.cluster_roles
        } else {
            self.roles.get(namespace)?
        };
        roles.get(name).map(|role| &*role.effective)
    }

    fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = Grant<'a>> {
        let cluster = self
            .cluster_bindings
            .iter()
            .map(|(name, binding)| ("", name, binding));
        let local = self.bindings.get(namespace).filter(|_| !namespace.is_empty());
        let local = local
            .into_iter()
            .flatten()
            .map(move |(name, binding)| (namespace, name, binding));
        cluster.chain(local).filter_map(|(namespace, name, binding)| {
            let subject = binding
                .subjects
                .iter()
                .flatten()
                .find(|s| s.means(user, namespace))?;
            let rules = self.referenced(namespace, &binding.role_ref);
            Some(Grant {
                namespace,
                binding: name,
                role: &binding.role_ref,
                subject,
                rules,
            })
        })
    }

    fn referenced(&self, namespace: &str, role: &RoleRef) -> Result<&[PolicyRule], String> {
        let scope = if role.kind == "Role" { namespace } else { "" };
        self.role_rules(scope, &role.name).ok_or_else(|| {
            let plural = if role.kind == "Role" {
                "role"
            } else {
                "clusterrole"
            };
            format!("{plural}.rbac.authorization.k8s.io {:?} not found", role.name)
        })
    }

    /// Whether a binding allows this.
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        let mut errors = Vec::new();
        for grant in self.grants(&attributes.user, &attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rules::allows(rule, attributes)) => {
                    return Decision {
                        reason: grant.reason(),
                        ..Decision::allow()
                    };
                }
                Ok(_) => {}
                Err(error) => errors.push(error.clone()),
            }
        }
        if errors.is_empty() {
            return Decision::default();
        }
        let error = go::aggregate(&errors);
        Decision {
            reason: format!("RBAC: {error}"),
            error,
            ..Decision::default()
        }
    }

    /// Everything `user` may do in `namespace`, and whether something could not be resolved.
    pub fn rules(&self, user: &User, namespace: &str) -> Known {
        let mut known = Known::default();
        for grant in self.grants(user, namespace) {
            match grant.rules {
                Ok(rules) => known.rules.extend_from_slice(rules),
                Err(why) => known.errors.push(why),
            }
        }
        known
    }
}

impl Grant<'_> {
    fn reason(&self) -> String {
        let binding = if self.namespace.is_empty() {
            format!("ClusterRoleBinding {:?}", self.binding)
        } else {
            format!("RoleBinding {:?}", format!("{}/{}", self.binding, self.namespace))
        };
        let (kind, name) = (&self.role.kind, &self.role.name);
        format!(
            "RBAC: allowed by {binding} of {kind} {name:?} to {}",
            self.subject.text(self.namespace)
        )
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: Option<&[u8]>) -> Option<T> {
    match serde_json::from_slice(text?) {
        Ok(value) => Some(value),
        Err(error) => {
            // Stored objects were validated, so this is ours to see; a role that cannot be
            // read grants nothing.
            tracing::error!(name, %error, "stored RBAC object cannot be read");
            None
        }
    }
}

fn set<T: serde::de::DeserializeOwned>(map: &mut HashMap<String, T>, name: &str, text: Option<&[u8]>) {
    match parse(name, text) {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
}

fn set_ordered<T: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<String, T>,
    name: &str,
    text: Option<&[u8]>,
) {
    match parse(name, text) {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::super::defaults;
    use super::*;

    fn index() -> Index {
        let mut index = Index::default();
        for d in defaults::all() {
            index.apply(
                d.plural,
                &d.namespace,
                &d.name,
                Some(d.object.to_string().as_bytes()),
            );
        }
        index
    }

    fn ask(user: &User, verb: &str, resource: &str, namespace: &str) -> Attributes {
        Attributes {
            user: user.clone(),
            verb: verb.into(),
            resource_request: true,
            resource: resource.into(),
            namespace: namespace.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn masters_may_everything_and_strangers_nothing() {
        let index = index();
        let admin = User::new("admin", &["system:masters"]);
        let decision = index.decide(&ask(&admin, "delete", "secrets", "kube-system"));
        assert!(decision.allowed);
        assert_eq!(
            decision.reason,
            r#"RBAC: allowed by ClusterRoleBinding "cluster-admin" of ClusterRole "cluster-admin" to Group "system:masters""#
        );
        assert_eq!(
            index.decide(&ask(&User::anonymous(), "get", "pods", "default")),
            Decision::default()
        );
        let healthz = Attributes::of_path(&User::anonymous(), "get", "/healthz");
        assert!(index.decide(&healthz).allowed);
        assert!(
            !index
                .decide(&Attributes::of_path(&User::anonymous(), "get", "/apis"))
                .allowed
        );
    }

    #[test]
    fn admin_aggregates_edit_and_view() {
        let mut index = index();
        let binding = serde_json::json!({
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "a"}]});
        index.apply("rolebindings", "a", "bots", Some(binding.to_string().as_bytes()));
        let bot = User::new("system:serviceaccount:a:bot", &[]);
        for (verb, resource, namespace, expected) in [
            ("list", "pods", "a", true),
            ("create", "configmaps", "a", true),
            ("list", "pods", "b", false),
            ("list", "pods", "", false),
            ("list", "nodes", "", false),
        ] {
            let decision = index.decide(&ask(&bot, verb, resource, namespace));
            assert_eq!(decision.allowed, expected, "{verb} {resource} {namespace}");
        }
        let mut roles = ask(&bot, "create", "rolebindings", "a");
        roles.group = "rbac.authorization.k8s.io".into();
        assert!(index.decide(&roles).allowed);
        index.apply("rolebindings", "a", "bots", None);
        assert!(!index.decide(&roles).allowed);
    }

    #[test]
    fn an_account_without_a_namespace_is_one_of_the_bindings_own() {
        let mut index = index();
        let binding = serde_json::json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot"}]});
        let text = binding.to_string();
        index.apply("rolebindings", "a", "bots", Some(text.as_bytes()));
        index.apply("clusterrolebindings", "", "bots", Some(text.as_bytes()));
        let own = User::new("system:serviceaccount:a:bot", &[]);
        let decision = index.decide(&ask(&own, "list", "pods", "a"));
        assert_eq!(
            decision.reason,
            r#"RBAC: allowed by RoleBinding "bots/a" of ClusterRole "view" to ServiceAccount "bot/a""#
        );
        assert!(!index.decide(&ask(&own, "list", "pods", "b")).allowed);
        let other = User::new("system:serviceaccount:b:bot", &[]);
        assert!(!index.decide(&ask(&other, "list", "pods", "a")).allowed);
    }

    #[test]
    fn a_missing_role_is_named_in_the_refusal() {
        let mut index = Index::default();
        let binding = r#"{"roleRef":{"kind":"Role","name":"gone"},"subjects":[{"kind":"User","name":"x"}]}"#;
        index.apply("rolebindings", "a", "b", Some(binding.as_bytes()));
        let decision = index.decide(&ask(&User::new("x", &[]), "get", "pods", "a"));
        assert_eq!(
            decision.reason,
            r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#
        );
    }
}
