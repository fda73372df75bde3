//! PodSecurity: pods meet the standard that their namespace asks for, and who writes what would make others is warned.

mod checks;
mod namespaces;
mod policy;

use api::go;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};
use checks::{Subject, Violation, violations};
pub use policy::{Level, Policy, Standard, Version};

/// Before every audit annotation of this plugin.
const NOTE: &str = "pod-security.kubernetes.io/";
/// Parts of a pod by which its spec does not change.
const OTHER_PARTS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];
/// Resources that make pods, and where their templates are.
const MAKERS: [(&str, &str, &str); 8] = [
    ("", "podtemplates", "template"),
    ("", "replicationcontrollers", "spec.template"),
    ("apps", "replicasets", "spec.template"),
    ("apps", "deployments", "spec.template"),
    ("apps", "statefulsets", "spec.template"),
    ("apps", "daemonsets", "spec.template"),
    ("batch", "jobs", "spec.template"),
    ("batch", "cronjobs", "spec.jobTemplate.spec.template"),
];

/// What holds where nothing else is said, and for whom nothing holds.
#[derive(Clone, Debug, Default)]
pub struct PodSecuritySettings {
    /// For namespaces whose labels say nothing.
    pub defaults: Policy,
    /// Namespaces in which nothing is looked at.
    pub namespaces: Vec<String>,
    /// Users whose pods are not looked at.
    pub users: Vec<String>,
    /// Runtime classes of pods that are not looked at.
    pub runtime_classes: Vec<String>,
}

/// The plugin.
pub struct PodSecurity(pub PodSecuritySettings);

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !matches!(review.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (review.kind.group, review.kind.plural) {
            ("", "namespaces") if review.subresource.is_empty() => self.namespace(review, world),
            ("", "pods") if !OTHER_PARTS.contains(&review.subresource) => self.pod(review, world),
            (group, plural) if review.subresource.is_empty() => {
                let maker = MAKERS.iter().find(|(g, p, _)| (*g, *p) == (group, plural));
                if let Some((_, _, path)) = maker {
                    self.template(review, world, path);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl PodSecurity {
    /// The policy of the review's namespace; `None` where nothing is to be looked at.
    fn policy(&self, review: &Review<'_>, world: &dyn World) -> Option<(Policy, Option<String>)> {
        let exempt = [
            ("namespace", &self.0.namespaces, review.namespace),
            ("user", &self.0.users, review.user.name.as_str()),
        ];
        for (why, list, is) in exempt {
            if list.iter().any(|exempt| exempt == is) {
                review.notes.annotate(format!("{NOTE}exempt"), why);
                return None;
            }
        }
        let labels = world.labels("", "namespaces", "", review.namespace);
        let find = |key: &str| {
            labels
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, text)| text.as_str())
        };
        let (policy, errors) = Policy::of(find, self.0.defaults);
        let wrong = (!errors.is_empty()).then(|| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("Failed to parse policy: {}", go::aggregate(&texts))
        });
        Some((policy, wrong))
    }

    fn pod(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let (Some(pod), Some((policy, wrong))) = (review.object.as_deref(), self.policy(review, world))
        else {
            return Ok(());
        };
        if wrong.is_none() && policy.is_idle() {
            review
                .notes
                .annotate(format!("{NOTE}enforce-policy"), "privileged:latest");
            return Ok(());
        }
        if review.old.is_some_and(|old| !changes_images(pod, old)) {
            return Ok(());
        }
        let subject = Subject {
            metadata: value::get(pod, "metadata"),
            spec: value::get(pod, "spec"),
        };
        self.judge(review, &policy, wrong, &subject, true)
    }

    fn template(&self, review: &Review<'_>, world: &dyn World, path: &str) {
        let Some(object) = review.object.as_deref() else {
            return;
        };
        let template = value::get(object, path);
        if !value::has(template, "spec") {
            return;
        }
        let Some((policy, wrong)) = self.policy(review, world) else {
            return;
        };
        let idle = [policy.warn, policy.audit]
            .iter()
            .all(|s| s.level == Level::Privileged);
        if idle && wrong.is_none() {
            return;
        }
        let subject = Subject {
            metadata: value::get(template, "metadata"),
            spec: value::get(template, "spec"),
        };
        // What is not enforced is not refused.
        let _ = self.judge(review, &policy, wrong, &subject, false);
    }

    fn judge(
        &self,
        review: &Review<'_>,
        policy: &Policy,
        wrong: Option<String>,
        subject: &Subject<'_>,
        enforce: bool,
    ) -> Result<(), Status> {
        let note = |key: &str, text: String| review.notes.annotate(format!("{NOTE}{key}"), text);
        if self.is_exempt(subject.spec) {
            note("exempt", "runtimeClass".to_owned());
            return Ok(());
        }
        if let Some(wrong) = wrong {
            note("error", wrong);
        }
        let broken = |standard: Standard| text_of(standard, &violations(standard, subject));
        if let Some(text) = broken(policy.audit) {
            note("audit-violations", format!("would {text}"));
        }
        if enforce {
            note("enforce-policy", policy.enforce.to_string());
            if let Some(text) = broken(policy.enforce) {
                return Err(review.forbid(&text.replacen("violate", "violates", 1)));
            }
        }
        if let Some(text) = broken(policy.warn) {
            review.notes.warn(format!("would {text}"));
        }
        Ok(())
    }

    fn is_exempt(&self, spec: &Value) -> bool {
        let class = value::text(spec, "runtimeClassName");
        !class.is_empty() && self.0.runtime_classes.iter().any(|exempt| exempt == class)
    }
}

/// `violate PodSecurity "…": …`, if there is anything to say.
fn text_of(standard: Standard, violations: &[Violation]) -> Option<String> {
    if violations.is_empty() {
        return None;
    }
    let details = checks::details(violations);
    Some(format!("violate PodSecurity \"{standard}\": {details}"))
}

/// Whether a change of a pod is one to look at: other images, other containers.
fn changes_images(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let containers = value::list(pod, &format!("spec.{list}")).iter();
        containers
            .map(|c| {
                (
                    value::text(c, "name").to_owned(),
                    value::text(c, "image").to_owned(),
                )
            })
            .collect()
    };
    let differs = |list: &&str| {
        let (new, old) = (images(new, list), images(old, list));
        new.len() != old.len() || new.iter().any(|container| !old.contains(container))
    };
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .any(differs)
}

#[cfg(test)]
mod tests;
