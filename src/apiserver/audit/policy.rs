//! What is recorded of which request: `audit.k8s.io/v1` Policy. Pure.

use api::request::User;
use serde::Deserialize;

/// How much is recorded of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what when, and how it ended.
    Metadata,
    /// And the body.
    Request,
    /// And the answer.
    RequestResponse,
}

impl Level {
    /// As events write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When something is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// The request is here.
    RequestReceived,
    /// The answer has begun, and will go on: watches.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server failed.
    Panic,
}

impl Stage {
    /// As events write it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A policy: the first rule that fits a request decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a request is about, as rules see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Verb of RBAC, or the method in small letters.
    pub verb: String,
    /// The path, when it is no resource.
    pub path: String,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name.
    pub plural: String,
    /// Part of the object; empty for the whole.
    pub subresource: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Name; empty for collections.
    pub name: String,
}

/// What is recorded of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// How much.
    pub level: Level,
    /// At which stages nothing is.
    pub omitted: Vec<Stage>,
    /// Whether objects are recorded without their managed fields.
    pub without_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Policy = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        match (policy.api_version.as_str(), policy.kind.as_str()) {
            ("audit.k8s.io/v1", "Policy") => {}
            (version, kind) => {
                return Err(format!(
                    "it is a {kind} of {version}, not a Policy of audit.k8s.io/v1"
                ));
            }
        }
        if policy.rules.is_empty() {
            return Err(
                "it has no rules: every request needs one that fits, such as `level: Metadata` alone".into(),
            );
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if about_resources && !rule.non_resource_urls.is_empty() {
                return Err(format!(
                    "rules[{i}] cannot be about both resources and nonResourceURLs"
                ));
            }
        }
        Ok(policy)
    }

    /// What is recorded of a request; nothing when no rule fits.
    pub fn scope(&self, user: &User, about: &About) -> Scope {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(user, about)) else {
            return Scope::default();
        };
        Scope {
            level: rule.level,
            omitted: self
                .omit_stages
                .iter()
                .chain(&rule.omit_stages)
                .copied()
                .collect(),
            without_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn fits(&self, user: &User, about: &About) -> bool {
        let among = |list: &[String], is: &str| list.is_empty() || list.iter().any(|one| one == is);
        let grouped = self.user_groups.is_empty() || self.user_groups.iter().any(|g| user.groups.contains(g));
        if !among(&self.users, &user.name) || !grouped || !among(&self.verbs, &about.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return about.is_resource
                && among(&self.namespaces, &about.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|all| all.fit(about)));
        }
        let is_path = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => about.path.starts_with(prefix),
            None => about.path == *pattern,
        };
        self.non_resource_urls.is_empty()
            || (!about.is_resource && self.non_resource_urls.iter().any(is_path))
    }
}

impl Resources {
    fn fit(&self, about: &About) -> bool {
        if self.group != about.group {
            return false;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&about.name);
        self.resources.is_empty() || (named && self.resources.iter().any(|one| is(one, about)))
    }
}

fn is(pattern: &str, about: &About) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (about.subresource.is_empty() && pattern == about.plural),
        Some(("*", part)) => part == about.subresource,
        Some((plural, "*")) => plural == about.plural,
        Some((plural, part)) => plural == about.plural && part == about.subresource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Metadata
  resources: [{group: "", resources: ["secrets", "pods/log", "services/*"]}]
- level: Request
  userGroups: ["dev"]
  namespaces: ["shop", ""]
  omitManagedFields: false
- level: RequestResponse
  resources: [{group: apps}, {group: "", resources: ["*/status"]}, {group: "", resources: [configmaps], resourceNames: [x]}]
  omitStages: [ResponseStarted]
"#;

    fn resource(group: &str, plural: &str, part: &str, namespace: &str) -> About {
        About {
            verb: "get".into(),
            is_resource: true,
            group: group.into(),
            plural: plural.into(),
            subresource: part.into(),
            namespace: namespace.into(),
            ..About::default()
        }
    }

    fn level(user: &User, about: &About) -> Level {
        Policy::parse(POLICY).unwrap().scope(user, about).level
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let (ann, dev) = (User::new("ann", &[]), User::new("bob", &["dev"]));
        let path = |path: &str| About {
            path: path.into(),
            verb: "get".into(),
            ..About::default()
        };
        for (user, about, expected) in [
            (&ann, resource("", "secrets", "", "shop"), Level::Metadata),
            (&ann, resource("", "pods", "log", "shop"), Level::Metadata),
            (&ann, resource("", "services", "proxy", "shop"), Level::Metadata),
            (&ann, resource("", "pods", "", "shop"), Level::None),
            (&dev, resource("", "pods", "", "shop"), Level::Request),
            (&dev, resource("", "nodes", "", ""), Level::Request),
            (&dev, resource("", "pods", "", "other"), Level::None),
            (
                &ann,
                resource("apps", "deployments", "", "a"),
                Level::RequestResponse,
            ),
            (&ann, resource("", "nodes", "status", ""), Level::RequestResponse),
            (&ann, path("/healthz/ping"), Level::None),
            (&ann, path("/metrics"), Level::None),
        ] {
            assert_eq!(level(user, &about), expected, "{about:?}");
        }
        let mut named = resource("", "configmaps", "", "a");
        assert_eq!(level(&ann, &named), Level::None);
        named.name = "x".into();
        assert_eq!(level(&ann, &named), Level::RequestResponse);
    }

    #[test]
    fn omissions_add_up_and_a_rule_has_the_last_word_on_managed_fields() {
        let policy = Policy::parse(POLICY).unwrap();
        let scope = policy.scope(&User::default(), &resource("apps", "x", "", "a"));
        assert_eq!(scope.omitted, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(scope.without_managed_fields);
        let scope = policy.scope(&User::new("bob", &["dev"]), &resource("", "pods", "", "shop"));
        assert!(!scope.without_managed_fields);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let refused = |text: &str| Policy::parse(text).unwrap_err();
        assert!(refused("apiVersion: v1\nkind: Pod\nrules: []\n").contains("not a Policy"));
        let typo = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, user: [a]}]\n";
        assert!(refused(typo).contains("user"), "{}", refused(typo));
        let both = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/]}]\n";
        assert!(refused(both).contains("both"));
    }
}
