//! Everything that is asked about requests, compiled and in the order in which it is asked. It changes when a
//! configuration does, never with a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::admission::policies::Bound;
use crate::admission::policies::policy::{Binding, Policy};
use crate::admission::webhooks::hook::Hook;

/// One configuration, compiled.
enum Configured {
    Hooks(Vec<Arc<Hook>>),
    Policy(Arc<Policy>),
    Binding(Arc<Binding>),
}

impl Configured {
    fn of(plural: &str, object: &Value) -> Option<Self> {
        let hooks = || Hook::all(object).into_iter().map(Arc::new).collect();
        Some(match plural {
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => Configured::Hooks(hooks()),
            "validatingadmissionpolicies" => Configured::Policy(Arc::new(Policy::validating(object))),
            "mutatingadmissionpolicies" => Configured::Policy(Arc::new(Policy::mutating(object))),
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
                Configured::Binding(Arc::new(Binding::of(object)))
            }
            _ => return None,
        })
    }
}

/// Configurations by plural and name.
#[derive(Default)]
pub struct Configurations(BTreeMap<(String, String), Configured>);

impl Configurations {
    /// Takes a configuration in, or forgets one that is gone.
    pub fn apply(&mut self, plural: &str, name: &str, object: Option<&Value>) {
        let key = (plural.to_owned(), name.to_owned());
        match object.and_then(|object| Configured::of(plural, object)) {
            Some(configured) => self.0.insert(key, configured),
            None => self.0.remove(&key),
        };
    }

    /// All of them, put together.
    pub fn index(&self) -> Index {
        Index {
            mutating_hooks: self.hooks("mutatingwebhookconfigurations"),
            validating_hooks: self.hooks("validatingwebhookconfigurations"),
            mutating_policies: self.bound("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
            validating_policies: self
                .bound("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        }
    }

    fn of<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = &'a Configured> {
        let these = self.0.iter().filter(move |((of, _), _)| of == plural);
        these.map(|(_, configured)| configured)
    }

    fn hooks(&self, plural: &str) -> Vec<Arc<Hook>> {
        let hooks = self.of(plural).filter_map(|configured| match configured {
            Configured::Hooks(hooks) => Some(hooks),
            _ => None,
        });
        hooks.flatten().cloned().collect()
    }

    /// Policies with their bindings; one that is bound nowhere is asked nothing.
    fn bound(&self, policies: &str, bindings: &str) -> Vec<Bound> {
        let bindings = |policy: &Policy| {
            let all = self.of(bindings).filter_map(|configured| match configured {
                Configured::Binding(binding) if binding.policy == policy.name => Some(binding.clone()),
                _ => None,
            });
            all.collect::<Vec<_>>()
        };
        let policies = self.of(policies).filter_map(|configured| match configured {
            Configured::Policy(policy) => Some(policy.clone()),
            _ => None,
        });
        let bound = policies.map(|policy| Bound {
            bindings: bindings(&policy),
            policy,
        });
        bound.filter(|bound| !bound.bindings.is_empty()).collect()
    }
}

/// Who is asked about requests.
#[derive(Default)]
pub struct Index {
    /// Webhooks that may change objects.
    pub mutating_hooks: Vec<Arc<Hook>>,
    /// Webhooks that may refuse requests.
    pub validating_hooks: Vec<Arc<Hook>>,
    /// Policies that may change objects.
    pub mutating_policies: Vec<Bound>,
    /// Policies that may refuse requests.
    pub validating_policies: Vec<Bound>,
}

impl Index {
    /// Whether nobody may change objects.
    pub fn changes_nothing(&self) -> bool {
        self.mutating_hooks.is_empty() && self.mutating_policies.is_empty()
    }

    /// Whether nobody may refuse requests.
    pub fn refuses_nothing(&self) -> bool {
        self.validating_hooks.is_empty() && self.validating_policies.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations_come_and_go() {
        let mut all = Configurations::default();
        assert!(all.index().changes_nothing() && all.index().refuses_nothing());
        let hooks = |name: &str| json!({"metadata": {"name": name}, "webhooks": [{"name": "x.y.z"}, {"name": "a.b.c"}]});
        all.apply("mutatingwebhookconfigurations", "b", Some(&hooks("b")));
        all.apply("mutatingwebhookconfigurations", "a", Some(&hooks("a")));
        let index = all.index();
        let ids: Vec<&str> = index.mutating_hooks.iter().map(|hook| hook.id.as_str()).collect();
        assert_eq!(ids, ["a/x.y.z", "a/a.b.c", "b/x.y.z", "b/a.b.c"]);
        assert!(index.refuses_nothing() && !index.changes_nothing());

        let policy = json!({"metadata": {"name": "p"}, "spec": {}});
        all.apply("validatingadmissionpolicies", "p", Some(&policy));
        assert!(all.index().refuses_nothing(), "it is bound nowhere");
        let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
        all.apply("validatingadmissionpolicybindings", "b", Some(&binding));
        assert!(!all.index().refuses_nothing());
        all.apply("validatingadmissionpolicybindings", "b", None);
        assert!(all.index().refuses_nothing());
    }
}
