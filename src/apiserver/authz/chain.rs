//! Several authorisers, one after another: the first that has an opinion decides.

use std::sync::{Arc, PoisonError, RwLock};

use api::request::User;
use async_trait::async_trait;
use base::Clock;

use super::config::{AuthorizationConfiguration, Told};
use super::webhook::Webhook;
use super::{Attributes, Authorizer, Decision, PolicyRule};
use crate::outbound::Outbound;
use crate::rbac::Rbac;

/// The authorisers of a server, which may change while it runs.
pub struct Chain {
    rbac: Arc<Rbac>,
    // A std lock: nothing awaits while it is held.
    steps: RwLock<Arc<[Step]>>,
}

/// One of them.
enum Step {
    Node,
    Rbac,
    Webhook(Box<Webhook>),
    Always(bool),
}

/// What the steps have said so far.
#[derive(Default)]
struct Said {
    reasons: Vec<String>,
    errors: Vec<String>,
    broken: bool,
}

impl Chain {
    /// Node rules, then roles and bindings.
    pub fn new(rbac: Arc<Rbac>) -> Self {
        Self {
            rbac,
            steps: RwLock::new([Step::Node, Step::Rbac].into()),
        }
    }

    /// Asks as this configuration says from now on.
    ///
    /// # Errors
    /// What is wrong with it; then everything stays as it was.
    pub fn configure(
        &self,
        told: &AuthorizationConfiguration,
        outbound: &Outbound,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), String> {
        let steps = told.authorizers.iter().enumerate().map(|(at, told)| {
            Step::of(told, outbound, clock).map_err(|why| format!("authorizers[{at}].webhook.{why}"))
        });
        let steps: Arc<[Step]> = steps.collect::<Result<_, String>>()?;
        *self.steps.write().unwrap_or_else(PoisonError::into_inner) = steps;
        Ok(())
    }

    fn steps(&self) -> Arc<[Step]> {
        self.steps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a step knows by itself.
    fn known(&self, step: &Step, attributes: &Attributes) -> Decision {
        match step {
            Step::Node => self.rbac.node(attributes),
            Step::Rbac => self.rbac.roles(attributes),
            Step::Webhook(webhook) => webhook.known(attributes),
            Step::Always(allowed) => Decision {
                allowed: *allowed,
                reason: if *allowed {
                    String::new()
                } else {
                    "Everything is forbidden.".into()
                },
                ..Decision::default()
            },
        }
    }
}

impl Step {
    fn of(told: &Told, outbound: &Outbound, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        Ok(match (told.sort.as_str(), &told.webhook) {
            ("Node", _) => Step::Node,
            ("RBAC", _) => Step::Rbac,
            ("Webhook", Some(webhook)) => {
                Step::Webhook(Box::new(Webhook::new(webhook, outbound.clone(), clock.clone())?))
            }
            (sort, _) => Step::Always(sort == "AlwaysAllow"),
        })
    }
}

impl Said {
    /// Takes in what one says; what that decides, if it does.
    fn hear(&mut self, decision: Decision) -> Option<Decision> {
        if decision.allowed || decision.asks {
            return Some(decision);
        }
        let denied = decision.denied;
        self.broken |= decision.broken;
        self.reasons
            .extend(Some(decision.reason).filter(|text| !text.is_empty()));
        self.errors
            .extend(Some(decision.error).filter(|text| !text.is_empty()));
        denied.then(|| self.end(true))
    }

    fn end(&mut self, denied: bool) -> Decision {
        Decision {
            denied,
            broken: self.broken,
            reason: std::mem::take(&mut self.reasons).join("\n"),
            error: std::mem::take(&mut self.errors).join(", "),
            ..Decision::default()
        }
    }
}

#[async_trait]
impl Authorizer for Chain {
    fn decide(&self, attributes: &Attributes) -> Decision {
        // The break-glass group must work whatever is configured.
        if super::is_privileged(&attributes.user) {
            return Decision::allow();
        }
        let mut said = Said::default();
        for step in self.steps().iter() {
            if let Some(decision) = said.hear(self.known(step, attributes)) {
                return decision;
            }
        }
        said.end(false)
    }

    async fn ask(&self, attributes: &Attributes) -> Decision {
        let mut said = Said::default();
        for step in self.steps().iter() {
            let decision = match step {
                Step::Webhook(webhook) => webhook.ask(attributes).await,
                step => self.known(step, attributes),
            };
            if let Some(decision) = said.hear(decision) {
                return decision;
            }
        }
        said.end(false)
    }

    fn rules(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, bool) {
        let (rules, incomplete) = self.rbac.rules(user, namespace);
        let asks = |step: &Step| matches!(step, Step::Webhook(_));
        (rules, incomplete || self.steps().iter().any(asks))
    }

    fn role_rules(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        self.rbac.role_rules(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use base::SystemClock;

    use super::*;

    fn chain(sorts: &[&str]) -> Chain {
        let chain = Chain::new(Arc::new(Rbac::with_defaults()));
        let told = AuthorizationConfiguration {
            authorizers: sorts
                .iter()
                .map(|sort| Told {
                    sort: (*sort).to_owned(),
                    name: sort.to_lowercase(),
                    webhook: None,
                })
                .collect(),
            ..AuthorizationConfiguration::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        chain.configure(&told, &Outbound::to_hosts(), &clock).unwrap();
        chain
    }

    fn reads_nodes(user: User) -> Attributes {
        Attributes {
            user,
            verb: "get".into(),
            resource_request: true,
            resource: "nodes".into(),
            name: "a".into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn the_first_with_an_opinion_decides() {
        let node = || User::new("system:node:a", &["system:nodes"]);
        let jane = || User::new("jane", &["system:authenticated"]);
        let root = || User::new("root", &["system:masters"]);
        for (sorts, user, allowed) in [
            (&["Node", "RBAC"][..], node(), true),
            (&["RBAC"], node(), false),
            (&["Node", "RBAC"], jane(), false),
            (&["AlwaysDeny", "AlwaysAllow"], jane(), true),
            (&["AlwaysDeny"], jane(), false),
            (&["AlwaysDeny"], root(), true),
        ] {
            let decision = chain(sorts).decide(&reads_nodes(user));
            assert_eq!(decision.allowed, allowed, "{sorts:?}: {decision:?}");
        }
    }

    #[test]
    fn reasons_and_errors_are_gathered_until_one_decides() {
        let mut said = Said::default();
        let no = |reason: &str, error: &str, denied| Decision {
            denied,
            broken: !error.is_empty(),
            reason: reason.into(),
            error: error.into(),
            ..Decision::default()
        };
        assert_eq!(said.hear(no("first", "", false)), None);
        let denied = said.hear(no("second", "out of order", true)).unwrap();
        assert_eq!(
            (denied.reason.as_str(), denied.error.as_str()),
            ("first\nsecond", "out of order")
        );
        assert!(denied.denied && denied.broken && !denied.allowed);
    }
}
