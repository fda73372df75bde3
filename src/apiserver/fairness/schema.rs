//! FlowSchemas: which requests they are about, and what tells flows apart. Pure.

use api::object;
use api::request::User;
use api::value::{flag, get, int, list, text};
use serde_json::Value;

const ACCOUNT: &str = "system:serviceaccount:";

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Digest<'r> {
    /// Who asks, impersonation included.
    pub user: &'r User,
    /// RBAC verb; the method in lower case for plain paths.
    pub verb: &'r str,
    /// What it is about.
    pub about: Subject<'r>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'r> {
    /// A resource of the API.
    Resource {
        /// API group.
        group: &'r str,
        /// Plural name.
        plural: &'r str,
        /// Part of the resource; empty for the whole.
        part: &'r str,
        /// Namespace; empty for cluster scope and for all namespaces.
        namespace: &'r str,
    },
    /// Any other path.
    Path(&'r str),
}

impl Digest<'_> {
    /// The namespace; empty for what has none.
    pub fn namespace(&self) -> &str {
        match self.about {
            Subject::Resource { namespace, .. } => namespace,
            Subject::Path(_) => "",
        }
    }
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    /// Nothing: all are one flow.
    None,
    /// Each user has a flow.
    User,
    /// Each namespace has one.
    Namespace,
}

/// A FlowSchema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The priority level that its requests belong to.
    pub level: String,
    /// Schemas of lower numbers are tried first.
    pub precedence: i64,
    /// What tells flows apart.
    pub by: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    subjects: Vec<Who>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

#[derive(Clone, Debug, PartialEq)]
enum Who {
    User(String),
    Group(String),
    /// The user name of an account, or where the user names of a namespace's accounts begin.
    Account(String),
    Accounts(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Resources {
    verbs: Vec<String>,
    groups: Vec<String>,
    plurals: Vec<String>,
    namespaces: Vec<String>,
    cluster: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Paths {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Schema {
    /// Reads an object.
    pub fn of(object: &Value) -> Self {
        let spec = get(object, "spec");
        let by = match text(spec, "distinguisherMethod.type") {
            "ByUser" => Distinguisher::User,
            "ByNamespace" => Distinguisher::Namespace,
            _ => Distinguisher::None,
        };
        Self {
            name: object::name(object).to_owned(),
            uid: object::uid(object).to_owned(),
            level: text(spec, "priorityLevelConfiguration.name").to_owned(),
            precedence: int(spec, "matchingPrecedence").unwrap_or(1000),
            by,
            rules: list(spec, "rules").iter().map(Rule::of).collect(),
        }
    }

    /// Whether it is about that request.
    pub fn matches(&self, request: &Digest) -> bool {
        self.rules.iter().any(|rule| rule.matches(request))
    }

    /// The name of a request's flow among those of the schema.
    pub fn flow<'r>(&self, request: &'r Digest) -> &'r str {
        match self.by {
            Distinguisher::None => "",
            Distinguisher::User => &request.user.name,
            Distinguisher::Namespace => request.namespace(),
        }
    }
}

impl Rule {
    fn of(rule: &Value) -> Self {
        let resources = list(rule, "resourceRules").iter().map(|rule| Resources {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            plurals: texts(rule, "resources"),
            namespaces: texts(rule, "namespaces"),
            cluster: flag(rule, "clusterScope"),
        });
        let paths = list(rule, "nonResourceRules").iter().map(|rule| Paths {
            verbs: texts(rule, "verbs"),
            paths: texts(rule, "nonResourceURLs"),
        });
        Self {
            subjects: list(rule, "subjects").iter().filter_map(Who::of).collect(),
            resources: resources.collect(),
            paths: paths.collect(),
        }
    }

    fn matches(&self, request: &Digest) -> bool {
        self.subjects.iter().any(|who| who.is(request.user))
            && match request.about {
                Subject::Path(path) => self.paths.iter().any(|rule| rule.matches(request.verb, path)),
                Subject::Resource { .. } => self.resources.iter().any(|rule| rule.matches(request)),
            }
    }
}

impl Who {
    fn of(subject: &Value) -> Option<Self> {
        Some(match text(subject, "kind") {
            "User" => Who::User(text(subject, "user.name").to_owned()),
            "Group" => Who::Group(text(subject, "group.name").to_owned()),
            "ServiceAccount" => {
                let namespace = text(subject, "serviceAccount.namespace");
                match text(subject, "serviceAccount.name") {
                    "*" => Who::Accounts(format!("{ACCOUNT}{namespace}:")),
                    name => Who::Account(format!("{ACCOUNT}{namespace}:{name}")),
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Who::User(name) => name == "*" || *name == user.name,
            Who::Group(name) => name == "*" || user.groups.contains(name),
            Who::Account(name) => *name == user.name,
            Who::Accounts(start) => user.name.starts_with(start),
        }
    }
}

impl Resources {
    fn matches(&self, request: &Digest) -> bool {
        let Subject::Resource {
            group,
            plural,
            part,
            namespace,
        } = request.about
        else {
            return false;
        };
        let wanted = |rule: &String| match rule.split_once('/') {
            Some((name, of)) => name == plural && of == part,
            None => rule == "*" || (rule == plural && part.is_empty()),
        };
        let here = match namespace.is_empty() {
            true => self.cluster,
            false => has(&self.namespaces, namespace),
        };
        here && has(&self.verbs, request.verb) && has(&self.groups, group) && self.plurals.iter().any(wanted)
    }
}

impl Paths {
    fn matches(&self, verb: &str, path: &str) -> bool {
        let wanted = |rule: &String| match rule.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => rule == path,
        };
        has(&self.verbs, verb) && self.paths.iter().any(wanted)
    }
}

fn has(rule: &[String], value: &str) -> bool {
    rule.iter().any(|one| one == "*" || one == value)
}

fn texts(of: &Value, path: &str) -> Vec<String> {
    let texts = list(of, path).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(subjects: Value, resources: Value, paths: Value) -> Schema {
        Schema::of(&json!({
            "metadata": {"name": "s", "uid": "u"},
            "spec": {
                "priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 7,
                "distinguisherMethod": {"type": "ByNamespace"},
                "rules": [{"subjects": subjects, "resourceRules": resources, "nonResourceRules": paths}],
            },
        }))
    }

    fn pods<'r>(user: &'r User, verb: &'r str, part: &'r str, namespace: &'r str) -> Digest<'r> {
        let about = Subject::Resource {
            group: "",
            plural: "pods",
            part,
            namespace,
        };
        Digest { user, verb, about }
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]);
        let by = |subject: Value| schema(json!([subject]), any.clone(), json!([]));
        let jane = User::new("jane", &["dev"]);
        let account = User::new("system:serviceaccount:a:b", &[]);
        for (subject, is_jane, is_account) in [
            (json!({"kind": "User", "user": {"name": "jane"}}), true, false),
            (json!({"kind": "User", "user": {"name": "*"}}), true, true),
            (json!({"kind": "Group", "group": {"name": "dev"}}), true, false),
            (json!({"kind": "Group", "group": {"name": "*"}}), true, true),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "b"}}),
                false,
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}),
                false,
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "c", "name": "*"}}),
                false,
                false,
            ),
        ] {
            let schema = by(subject.clone());
            assert_eq!(schema.matches(&pods(&jane, "get", "", "x")), is_jane, "{subject}");
            assert_eq!(
                schema.matches(&pods(&account, "get", "", "x")),
                is_account,
                "{subject}"
            );
        }
    }

    #[test]
    fn resources_match_by_verb_part_and_scope() {
        let everybody = json!([{"kind": "Group", "group": {"name": "*"}}]);
        let rule = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/status"],
            "namespaces": ["a"]}]);
        let schema = schema(everybody.clone(), rule, json!([]));
        let user = User::new("x", &[]);
        for (verb, part, namespace, expected) in [
            ("get", "", "a", true),
            ("get", "status", "a", true),
            ("get", "log", "a", false),
            ("create", "", "a", false),
            ("get", "", "b", false),
            ("list", "", "", false),
        ] {
            assert_eq!(
                schema.matches(&pods(&user, verb, part, namespace)),
                expected,
                "{verb} {part} {namespace}"
            );
        }
        assert_eq!(schema.flow(&pods(&user, "get", "", "a")), "a");
        assert_eq!((schema.level.as_str(), schema.precedence), ("l", 7));
    }

    #[test]
    fn paths_match_whole_or_by_their_beginning() {
        let everybody = json!([{"kind": "User", "user": {"name": "*"}}]);
        let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/debug/*"]}]);
        let schema = schema(everybody, json!([]), paths);
        let user = User::new("x", &[]);
        for (verb, path, expected) in [
            ("get", "/healthz", true),
            ("get", "/healthz/etcd", false),
            ("get", "/debug/x", true),
            ("post", "/healthz", false),
        ] {
            let about = Subject::Path(path);
            assert_eq!(
                schema.matches(&Digest {
                    user: &user,
                    verb,
                    about
                }),
                expected,
                "{verb} {path}"
            );
        }
    }
}
