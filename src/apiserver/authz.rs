//! Who may do what: the question, the answer, and the trait that decides.

pub mod chain;
pub mod config;
pub mod narrowing;
mod tally;
mod webhook;

use api::request::{Request, User, Verb};
use api::status::{Status, group_resource};
use async_trait::async_trait;

use narrowing::Narrowing;

/// One question to an [`Authorizer`] (`authorization.k8s.io` attributes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: User,
    /// RBAC verb, such as `list`; for non-resource paths the HTTP method in lower case.
    pub verb: String,
    /// Whether this is about a resource rather than about `path`.
    pub resource_request: bool,
    /// API group; empty for core.
    pub group: String,
    /// API version; never matched by RBAC, used in no text.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Part of the resource; empty for the whole.
    pub subresource: String,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Object; empty for collections and creations.
    pub name: String,
    /// The path of a non-resource request.
    pub path: String,
    /// What selectors narrow it to.
    pub narrowing: Narrowing,
}

impl Attributes {
    /// The question that an API request asks.
    ///
    /// As in Kubernetes, a namespace lies in itself, and a collection that a field selector
    /// narrows to one name is a question about that object.
    pub fn of(request: &Request) -> Self {
        let place = &request.resource;
        let own = place.group.is_empty() && place.plural == "namespaces" && !request.name.is_empty();
        let selector = request.options.field_selector.split(',');
        let mut selected = selector.filter_map(|part| part.trim().strip_prefix("metadata.name="));
        let name = match request.name.as_str() {
            "" => selected.next().unwrap_or_default().trim_start_matches('='),
            name => name,
        };
        Self {
            user: request.user.clone(),
            verb: request.verb.name().to_owned(),
            resource_request: true,
            group: request.resource.group.clone(),
            version: request.resource.version.clone(),
            resource: request.resource.plural.clone(),
            subresource: request.subresource.clone(),
            namespace: if own {
                request.name.clone()
            } else {
                request.namespace.clone()
            },
            name: name.to_owned(),
            path: String::new(),
            narrowing: narrowing(request),
        }
    }

    /// The question that a request for a plain path asks; `verb` is the method in lower case.
    pub fn of_path(user: &User, verb: &str, path: &str) -> Self {
        Self {
            user: user.clone(),
            verb: verb.to_owned(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    /// `pods` or `pods/log`.
    pub fn resource_text(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Kubernetes' text for a refusal, as `kubectl auth` and every client shows it.
    pub fn refusal(&self, reason: &str) -> String {
        let user = &self.user.name;
        let verb = &self.verb;
        let mut text = if !self.resource_request {
            format!("User {user:?} cannot {verb} path {:?}", self.path)
        } else {
            let scope = if self.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", self.namespace)
            };
            format!(
                "User {user:?} cannot {verb} resource {:?} in API group {:?} {scope}",
                self.resource_text(),
                self.group
            )
        };
        if !reason.is_empty() {
            text.push_str(": ");
            text.push_str(reason);
        }
        text
    }

    /// The 403 that says no.
    pub fn forbidden(&self, reason: &str) -> Status {
        let why = self.refusal(reason);
        if !self.resource_request {
            return Status::new(403, "Forbidden", format!("forbidden: {why}"));
        }
        let mut status = Status::forbidden(&self.group, &self.resource, &self.name, &why);
        // The name is quoted even when it is empty only for named requests; the details carry it bare.
        if let Some(details) = &mut status.details {
            details.kind = self.resource.clone();
        }
        debug_assert!(
            status
                .message
                .starts_with(&group_resource(&self.group, &self.resource))
        );
        status
    }
}

/// What a request's selectors narrow it to; only whoever asks for several objects can be asked for fewer.
fn narrowing(request: &Request) -> Narrowing {
    match request.verb {
        Verb::List | Verb::Watch | Verb::DeleteCollection => {
            Narrowing::of_texts(&request.options.field_selector, &request.options.label_selector)
        }
        _ => Narrowing::default(),
    }
}

/// What an [`Authorizer`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Whether it may not, whatever others would say.
    pub denied: bool,
    /// Whether nothing is known here, and somebody elsewhere has to be asked ([`Authorizer::ask`]).
    pub asks: bool,
    /// Whether one who should have been asked could not be.
    pub broken: bool,
    /// Why, in words; may be empty.
    pub reason: String,
    /// What went wrong while deciding (roles that do not exist); may be empty.
    pub error: String,
}

impl Decision {
    /// A yes without a reason.
    pub fn allow() -> Self {
        Self {
            allowed: true,
            ..Self::default()
        }
    }
}

/// Whether a user may do everything, whatever else is configured.
pub fn is_privileged(user: &User) -> bool {
    user.groups.iter().any(|group| group == "system:masters")
}

/// A permission, as `rbac.authorization.k8s.io/v1` writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources such as `pods`, `pods/log`, `*/scale`, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Object names; empty for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, or prefixes ending in `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// What is known of a user's permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The permissions.
    pub rules: Vec<PolicyRule>,
    /// Whether there may be others: somebody decides who cannot list them.
    pub incomplete: bool,
    /// Why, and what else went wrong.
    pub errors: Vec<String>,
}

/// Decides what users may do.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether `attributes.user` may do this, as far as memory knows; it does not wait.
    fn decide(&self, attributes: &Attributes) -> Decision;

    /// The same for what somebody elsewhere has to be asked, see [`Decision::asks`].
    async fn ask(&self, attributes: &Attributes) -> Decision {
        self.decide(attributes)
    }

    /// Every permission that `user` has in `namespace` (empty: cluster-wide ones only).
    fn rules(&self, user: &User, namespace: &str) -> Known;

    /// The rules of a role as they stand: of a `ClusterRole` (aggregation included) when
    /// `namespace` is empty, else of a `Role`. `None` when it does not exist.
    fn role_rules(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>>;
}

impl dyn Authorizer {
    /// Whether `attributes.user` may do this; waits for an answer only where one has to be asked for.
    pub async fn settle(&self, attributes: &Attributes) -> Decision {
        let known = self.decide(attributes);
        if known.asks {
            self.ask(attributes).await
        } else {
            known
        }
    }

    /// `Ok` when the user may, the 403 otherwise.
    ///
    /// # Errors
    /// Also 500, when nobody allows it and one who should have been asked could not be.
    pub async fn authorize(&self, attributes: &Attributes) -> Result<(), Status> {
        let decision = self.settle(attributes).await;
        match (decision.allowed, decision.broken) {
            (true, _) => Ok(()),
            (false, true) => Err(Status::internal(decision.error)),
            (false, false) => Err(attributes.forbidden(&decision.reason)),
        }
    }
}

/// An authoriser that says yes; for tests and for embedders that have asked for it.
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn decide(&self, _: &Attributes) -> Decision {
        Decision::allow()
    }

    fn rules(&self, _: &User, _: &str) -> Known {
        let all = || vec!["*".to_owned()];
        let resources = PolicyRule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        };
        let paths = PolicyRule {
            verbs: all(),
            non_resource_urls: all(),
            ..PolicyRule::default()
        };
        Known {
            rules: vec![resources, paths],
            ..Known::default()
        }
    }

    fn role_rules(&self, _: &str, _: &str) -> Option<Vec<PolicyRule>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::request::{ResourceRef, Verb};

    #[test]
    fn refusals_read_as_kubernetes_writes_them() {
        let pods = ResourceRef::new("", "v1", "pods");
        let mut request = Request::new(User::new("x", &[]), Verb::List, pods, "default", "");
        assert_eq!(
            Attributes::of(&request).forbidden("").message,
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        request.verb = Verb::Get;
        request.name = "web".into();
        request.subresource = "log".into();
        assert_eq!(
            Attributes::of(&request).forbidden("").message,
            r#"pods "web" is forbidden: User "x" cannot get resource "pods/log" in API group "" in the namespace "default""#
        );
        let node = Request::new(
            User::anonymous(),
            Verb::Patch(api::request::PatchType::Merge),
            ResourceRef::new("", "v1", "nodes"),
            "",
            "a",
        );
        assert_eq!(
            Attributes::of(&node).forbidden("").message,
            r#"nodes "a" is forbidden: User "system:anonymous" cannot patch resource "nodes" in API group "" at the cluster scope"#
        );
        let path = Attributes::of_path(&User::anonymous(), "get", "/metrics");
        assert_eq!(
            path.forbidden("").message,
            r#"forbidden: User "system:anonymous" cannot get path "/metrics""#
        );
    }
}
