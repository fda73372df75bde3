//! Which requests a webhook, a policy or a binding is for. Pure.

use api::kind::{Kind, KindRef};
use api::object;
use api::selector::LabelSelector;
use api::status::Status;
use api::value::{get, list, text};
use serde_json::Value;

use super::subject::{Objects, Subject};
use crate::admission::World;

/// One rule: operations, groups, versions, resources, scope, names.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

fn texts(value: &Value, path: &str) -> Vec<String> {
    let items = list(value, path).iter().filter_map(Value::as_str);
    items.map(str::to_owned).collect()
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    fn of(rule: &Value) -> Self {
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            scope: text(rule, "scope").to_owned(),
            names: texts(rule, "resourceNames"),
        }
    }

    /// Whether the request is meant when its resource is that of `kind`.
    fn matches(&self, subject: &Subject, kind: &Kind) -> bool {
        let in_scope = match self.scope.as_str() {
            "Namespaced" => kind.namespaced,
            "Cluster" => !kind.namespaced,
            _ => true,
        };
        in_scope
            && names(&self.operations, subject.operation.name())
            && names(&self.groups, kind.group)
            && names(&self.versions, kind.version)
            && (self.names.is_empty() || self.names.contains(&subject.name))
            && self
                .resources
                .iter()
                .any(|item| is_meant(item, kind.plural, &subject.subresource))
    }
}

/// Whether `pods`, `pods/*`, `*/scale`, `*` or `*/*` means a resource and a part of it.
fn is_meant(item: &str, plural: &str, subresource: &str) -> bool {
    let (resource, part) = item.split_once('/').unwrap_or((item, ""));
    (resource == "*" || resource == plural) && (part == "*" || part == subresource)
}

/// What is matched: rules, exceptions, and labels of namespace and object.
pub struct Matcher {
    rules: Vec<Rule>,
    except: Vec<Rule>,
    /// Whether everything is meant when there are no rules.
    open: bool,
    /// Whether another version of the same resource is as good.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Matcher {
    /// Of a webhook.
    pub fn of_webhook(hook: &Value) -> Self {
        Self::of(hook, "rules", false)
    }

    /// Of the `MatchResources` of a policy or binding.
    pub fn of_resources(resources: &Value) -> Self {
        // Bindings may leave rules out, and mean then whatever their policy means.
        Self::of(resources, "resourceRules", true)
    }

    fn of(holder: &Value, rules: &str, open: bool) -> Self {
        let all = |path: &str| list(holder, path).iter().map(Rule::of).collect();
        let selector = |path: &str| match get(holder, path) {
            Value::Null => LabelSelector::everything(),
            selector => LabelSelector::from_json(selector),
        };
        Self {
            rules: all(rules),
            except: all("excludeResourceRules"),
            open,
            equivalent: text(holder, "matchPolicy") != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version of the resource in which the request is meant; `None` when it is not. `others` are the
    /// other versions that are served.
    ///
    /// # Errors
    /// 404 when the namespace that should be looked at does not exist.
    pub fn matches(
        &self,
        subject: &Subject,
        objects: Objects<'_>,
        others: &[KindRef],
        world: &dyn World,
    ) -> Result<Option<KindRef>, Status> {
        let Some(kind) = self.version(subject, others) else {
            return Ok(None);
        };
        if self.is_excepted(subject, others) || !self.labels_match(objects) {
            return Ok(None);
        }
        Ok(self
            .namespace_matches(subject, objects.new, world)?
            .then_some(kind))
    }

    fn version(&self, subject: &Subject, others: &[KindRef]) -> Option<KindRef> {
        let everything = self.open && self.rules.is_empty();
        if everything || self.rules.iter().any(|rule| rule.matches(subject, &subject.kind)) {
            return Some(subject.kind.clone());
        }
        if !self.equivalent {
            return None;
        }
        let meant = |rule: &Rule| others.iter().find(|kind| rule.matches(subject, kind)).cloned();
        self.rules.iter().find_map(meant)
    }

    fn is_excepted(&self, subject: &Subject, others: &[KindRef]) -> bool {
        let others = others.iter().filter(|_| self.equivalent);
        let mut kinds = others.chain([&subject.kind]);
        kinds.any(|kind| self.except.iter().any(|rule| rule.matches(subject, kind)))
    }

    fn labels_match(&self, objects: Objects<'_>) -> bool {
        let fits = |value: &Value| {
            get(value, "metadata").is_object() && self.objects.matches(get(value, "metadata.labels"))
        };
        self.objects.is_everything() || [objects.new, objects.old].into_iter().flatten().any(fits)
    }

    fn namespace_matches(
        &self,
        subject: &Subject,
        object: Option<&Value>,
        world: &dyn World,
    ) -> Result<bool, Status> {
        if self.namespaces.is_everything() || subject.namespace.is_empty() {
            return Ok(true);
        }
        // A namespace that is made or changed counts as what it becomes.
        if let Some(own) = object.filter(|_| subject.is_namespace() && subject.subresource.is_empty()) {
            return Ok(self.namespaces.matches(get(own, "metadata.labels")));
        }
        let name = &subject.namespace;
        let found = world.find("", "namespaces", "", name);
        let found = found.ok_or_else(|| Status::not_found("", "namespaces", name))?;
        debug_assert_eq!(object::name(&found), name);
        Ok(self.namespaces.matches(get(&found, "metadata.labels")))
    }
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::*;
    use crate::admission::testing::{Fixed, creation};

    fn meant(holder: &Value, group: &str, plural: &str, object: &mut Value) -> Option<String> {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"tier": "gold"}}});
        let world = Fixed::new(vec![("", "namespaces", namespace)]);
        let user = User::default();
        let subject = Subject::of(&creation(group, plural, &user, object)).unwrap();
        let kinds = api::kinds::all().iter().map(|kind| KindRef::BuiltIn(kind));
        let others: Vec<KindRef> = kinds
            .filter(|kind| kind.plural == plural && kind.version != subject.kind.version)
            .collect();
        let matcher = Matcher::of_webhook(holder);
        let found = matcher.matches(
            &subject,
            Objects {
                new: Some(object),
                old: None,
            },
            &others,
            &world,
        );
        found.unwrap().map(|kind| kind.version.to_owned())
    }

    fn hook(groups: &str, versions: &str, resources: &[&str]) -> Value {
        json!({"rules": [{"operations": ["CREATE"], "apiGroups": [groups], "apiVersions": [versions],
            "resources": resources}], "matchPolicy": "Equivalent"})
    }

    #[test]
    fn rules_name_resources_and_their_parts() {
        let mut pod = json!({"metadata": {"name": "a"}});
        for (item, plural, part, matches) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/*", "pods", "exec", true),
            ("*/scale", "deployments", "scale", true),
            ("*", "pods", "log", false),
            ("*/*", "pods", "log", true),
        ] {
            assert_eq!(is_meant(item, plural, part), matches, "{item}");
        }
        assert_eq!(
            meant(&hook("", "v1", &["pods"]), "", "pods", &mut pod).as_deref(),
            Some("v1")
        );
        assert_eq!(meant(&hook("", "v2", &["pods"]), "", "pods", &mut pod), None);
        let mut cluster = hook("*", "*", &["*"]);
        cluster["rules"][0]["scope"] = json!("Cluster");
        assert_eq!(meant(&cluster, "", "pods", &mut pod), None);
    }

    #[test]
    fn labels_of_the_namespace_and_the_object_decide() {
        let mut pod = json!({"metadata": {"name": "a", "labels": {"app": "web"}}});
        let mut hook = hook("", "v1", &["pods"]);
        for (selector, labels, matches) in [
            ("namespaceSelector", json!({"tier": "gold"}), true),
            ("namespaceSelector", json!({"tier": "tin"}), false),
            ("objectSelector", json!({"app": "web"}), true),
            ("objectSelector", json!({"app": "db"}), false),
        ] {
            hook[selector] = json!({"matchLabels": labels});
            assert_eq!(meant(&hook, "", "pods", &mut pod).is_some(), matches, "{hook}");
            hook[selector] = json!({});
        }
    }

    #[test]
    fn another_version_is_as_good_unless_exactly_one_is_wanted() {
        let mut scaler = json!({"metadata": {"name": "a"}});
        let mut hook = hook("autoscaling", "v1", &["horizontalpodautoscalers"]);
        let plural = "horizontalpodautoscalers";
        let asked = meant(&hook, "autoscaling", plural, &mut scaler);
        assert_eq!(asked.as_deref(), Some("v1"));
        hook["matchPolicy"] = json!("Exact");
        hook["rules"][0]["apiVersions"] = json!(["v9"]);
        assert_eq!(meant(&hook, "autoscaling", plural, &mut scaler), None);
    }
}
