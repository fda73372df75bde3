//! Role-based access control as pure functions: which rules a user has, and
//! whether they allow what is asked (`rbac.authorization.k8s.io/v1`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::User;
use crate::selector::LabelSelector;
use crate::value::{list, text};

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Something to a resource.
    Resource {
        /// Verb, such as `get`.
        verb: &'a str,
        /// API group; empty for core.
        group: &'a str,
        /// Plural name, such as `pods`.
        resource: &'a str,
        /// Subresource, such as `log`; may be empty.
        subresource: &'a str,
        /// Namespace; empty for cluster scope and for all namespaces.
        namespace: &'a str,
        /// Name; empty for collections.
        name: &'a str,
    },
    /// Something to a path outside the resources, such as `/healthz`.
    Path {
        /// Verb: the HTTP method in lower case.
        verb: &'a str,
        /// The path.
        path: &'a str,
    },
}

/// What a role permits: every combination of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs; `*` for all.
    pub verbs: Vec<String>,
    /// API groups; `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale` or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths: `/healthz`, `/apis/*` or `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// A rule for resources.
    pub fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        Self {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            ..Self::default()
        }
    }

    /// A rule for paths.
    pub fn urls(verbs: &[&str], urls: &[&str]) -> Self {
        Self {
            verbs: owned(verbs),
            non_resource_urls: owned(urls),
            ..Self::default()
        }
    }

    /// The rules of a Role or ClusterRole object; rules that cannot be read are left out.
    pub fn of_role(role: &Value) -> Vec<Rule> {
        list(role, "rules")
            .iter()
            .filter_map(|r| Rule::deserialize(r).ok())
            .collect()
    }

    /// Whether it allows what is asked.
    pub fn allows(&self, ask: &Ask) -> bool {
        match *ask {
            Ask::Resource {
                verb,
                group,
                resource,
                subresource,
                name,
                ..
            } => {
                holds(&self.verbs, verb)
                    && holds(&self.api_groups, group)
                    && self.has_resource(resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
            Ask::Path { verb, path } => holds(&self.verbs, verb) && self.has_path(path),
        }
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|r| match (r.as_str(), subresource) {
            ("*", _) => true,
            (r, "") => r == resource,
            (r, sub) => r
                .split_once('/')
                .is_some_and(|(a, b)| b == sub && (a == "*" || a == resource)),
        })
    }

    fn has_path(&self, path: &str) -> bool {
        self.non_resource_urls
            .iter()
            .any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => url == path,
            })
    }

    /// The same rule as many rules with one verb, group, resource, name or path each.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                parts.push(Rule {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..Rule::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                        continue;
                    }
                    for name in &self.resource_names {
                        parts.push(Rule {
                            resource_names: vec![name.clone()],
                            ..part.clone()
                        });
                    }
                }
            }
        }
        parts
    }

    /// Whether it allows everything that a rule of one verb, resource and so on allows.
    fn covers_part(&self, part: &Rule) -> bool {
        let all = |have: &[String], want: &[String]| want.iter().all(|w| holds(have, w));
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(|r| {
                let (resource, subresource) = r.split_once('/').unwrap_or((r, ""));
                self.has_resource(resource, subresource)
            })
            && (self.resource_names.is_empty()
                || (!part.resource_names.is_empty()
                    && part
                        .resource_names
                        .iter()
                        .all(|n| self.resource_names.contains(n))))
            && part
                .non_resource_urls
                .iter()
                .all(|url| self.has_path(url) || self.non_resource_urls.contains(url))
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn holds(have: &[String], want: &str) -> bool {
    have.iter().any(|h| h == "*" || h == want)
}

impl From<&PolicyRule> for Rule {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            verbs: rule.verbs.clone(),
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Rule {
    /// As Kubernetes' refusals print it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| {
            format!(
                "{name}:[{}]",
                values
                    .iter()
                    .map(|v| format!("{v:?}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        })
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Who is bound to a role.
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
    /// Whether it means that user; `namespace` is the binding's.
    pub fn means(&self, user: &User, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.groups.contains(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    namespace
                } else {
                    &self.namespace
                };
                let names = user
                    .name
                    .strip_prefix("system:serviceaccount:")
                    .and_then(|n| n.split_once(':'));
                !namespace.is_empty() && names == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Its namespace; empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who is bound.
    pub subjects: Vec<Subject>,
    /// `Role` or `ClusterRole`.
    pub role_kind: String,
    /// Name of the role.
    pub role_name: String,
}

impl Binding {
    /// Reads a RoleBinding or ClusterRoleBinding object.
    pub fn from_json(binding: &Value) -> Self {
        Self {
            namespace: text(binding, "metadata.namespace").to_owned(),
            name: text(binding, "metadata.name").to_owned(),
            subjects: list(binding, "subjects")
                .iter()
                .filter_map(|s| Subject::deserialize(s).ok())
                .collect(),
            role_kind: text(binding, "roleRef.kind").to_owned(),
            role_name: text(binding, "roleRef.name").to_owned(),
        }
    }

    /// The subject that means that user.
    pub fn subject_for(&self, user: &User) -> Option<&Subject> {
        self.subjects.iter().find(|s| s.means(user, &self.namespace))
    }

    fn describe(&self, subject: &Subject) -> String {
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        let who = if subject.kind == "ServiceAccount" {
            let namespace = if subject.namespace.is_empty() {
                &self.namespace
            } else {
                &subject.namespace
            };
            format!("{}/{namespace}", subject.name)
        } else {
            subject.name.clone()
        };
        format!(
            "{kind} {name:?} of {} {:?} to {} {who:?}",
            self.role_kind, self.role_name, subject.kind
        )
    }
}

/// Where roles and bindings are looked up.
pub trait Roles {
    /// The rules of a Role (or of a ClusterRole, when `namespace` is empty).
    fn rules(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>>;
    /// The bindings of a namespace (or the ClusterRoleBindings, when `namespace` is empty).
    fn bindings(&self, namespace: &str) -> Vec<Arc<Binding>>;
}

/// Calls `see` with each binding that means the user in a namespace, and the rules it gives,
/// cluster-wide ones first, until `see` returns false.
fn visit(
    user: &User,
    namespace: &str,
    roles: &dyn Roles,
    see: &mut dyn FnMut(&Binding, &Subject, &[Rule]) -> bool,
) {
    let scopes = if namespace.is_empty() {
        vec![""]
    } else {
        vec!["", namespace]
    };
    for binding in scopes.into_iter().flat_map(|scope| roles.bindings(scope)) {
        let Some(subject) = binding.subject_for(user) else {
            continue;
        };
        let home = if binding.role_kind == "ClusterRole" {
            ""
        } else {
            binding.namespace.as_str()
        };
        if binding.role_kind != "ClusterRole" && home.is_empty() {
            continue;
        }
        if let Some(rules) = roles.rules(home, &binding.role_name)
            && !see(&binding, subject, &rules)
        {
            return;
        }
    }
}

/// Why the user may do what is asked, or `None` when no rule allows it.
pub fn allowed(user: &User, ask: &Ask, roles: &dyn Roles) -> Option<String> {
    let namespace = match ask {
        Ask::Resource { namespace, .. } => namespace,
        Ask::Path { .. } => "",
    };
    let mut why = None;
    visit(user, namespace, roles, &mut |binding, subject, rules| {
        if rules.iter().any(|r| r.allows(ask)) {
            why = Some(format!("RBAC: allowed by {}", binding.describe(subject)));
        }
        why.is_none()
    });
    why
}

/// Every rule that holds for the user in a namespace (cluster-wide when it is empty).
pub fn rules_for(user: &User, namespace: &str, roles: &dyn Roles) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    visit(user, namespace, roles, &mut |_, _, rules| {
        all.extend(rules.iter().cloned());
        true
    });
    all
}

/// The parts of `wanted` that `held` does not allow: what granting `wanted` would add.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::parts);
    parts
        .filter(|part| !held.iter().any(|rule| rule.covers_part(part)))
        .collect()
}

/// The words with which the server refuses, after `is forbidden: `.
pub fn refusal(user: &str, ask: &Ask) -> String {
    match *ask {
        Ask::Path { verb, path } => format!("User {user:?} cannot {verb} path {path:?}"),
        Ask::Resource {
            verb,
            group,
            resource,
            subresource,
            namespace,
            ..
        } => {
            let resource = if subresource.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}/{subresource}")
            };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
        }
    }
}

/// The rules an aggregating ClusterRole has: those of every other role that one of its selectors
/// picks, by name, without repetition. `None` when it does not aggregate.
pub fn aggregated_rules<'a>(
    role: &ClusterRole,
    all: impl IntoIterator<Item = &'a ClusterRole>,
) -> Option<Vec<PolicyRule>> {
    let selectors: Vec<LabelSelector> = role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .iter()
        .flatten()
        .map(|s| LabelSelector::from_typed(Some(s)))
        .collect();
    let picked: BTreeMap<&String, &ClusterRole> = all
        .into_iter()
        .filter(|other| other.metadata.name != role.metadata.name)
        .filter(|other| selectors.iter().any(|s| s.matches(&other.metadata.labels)))
        .filter_map(|other| Some((other.metadata.name.as_ref()?, other)))
        .collect();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in picked.values().flat_map(|other| other.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests;
