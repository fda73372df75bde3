//! Several authorisers, one after another: the first that has an opinion decides.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use api::request::User;
use async_trait::async_trait;
use base::Clock;
use base::telemetry::Metrics;

use super::config::{AuthorizationConfiguration, Told};
use super::tally::{Tally, Votes};
use super::webhook::Webhook;
use super::{Attributes, Authorizer, Decision, Known, PolicyRule};
use crate::outbound::Outbound;
use crate::rbac::Rbac;

/// The authorisers of a server, which may change while it runs.
pub struct Chain {
    rbac: Arc<Rbac>,
    tally: Tally,
    // A std lock: nothing awaits while it is held.
    steps: RwLock<Arc<[Step]>>,
}

/// One of them, and what is counted of it.
struct Step {
    what: What,
    votes: Votes,
}

enum What {
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
    pub fn new(rbac: Arc<Rbac>, metrics: &Metrics) -> Self {
        let tally = Tally::new(metrics);
        let step = |what, sort: &str| Step {
            what,
            votes: tally.votes(sort, &sort.to_lowercase()),
        };
        let steps = [step(What::Node, "Node"), step(What::Rbac, "RBAC")].into();
        Self {
            rbac,
            tally,
            steps: RwLock::new(steps),
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
            let step = Step::of(told, &self.tally, outbound, clock);
            step.map_err(|why| format!("authorizers[{at}].webhook.{why}"))
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
        match &step.what {
            What::Node => self.rbac.node(attributes),
            What::Rbac => self.rbac.roles(attributes),
            What::Webhook(webhook) => webhook.known(attributes),
            What::Always(allowed) => Decision {
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
    fn of(told: &Told, tally: &Tally, outbound: &Outbound, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let what = match (told.sort.as_str(), &told.webhook) {
            ("Node", _) => What::Node,
            ("RBAC", _) => What::Rbac,
            ("Webhook", Some(webhook)) => {
                let webhook = Webhook::new(&told.name, webhook, tally, outbound.clone(), clock.clone())?;
                What::Webhook(Box::new(webhook))
            }
            (sort, _) => What::Always(sort == "AlwaysAllow"),
        };
        let votes = tally.votes(&told.sort, &told.name);
        Ok(Self { what, votes })
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
        let began = Instant::now();
        let mut said = Said::default();
        for step in self.steps().iter() {
            let decision = self.known(step, attributes);
            step.votes.count(&decision);
            if let Some(decision) = said.hear(decision) {
                if !decision.asks {
                    self.tally.decided(&decision, began.elapsed());
                }
                return decision;
            }
        }
        let decision = said.end(false);
        self.tally.decided(&decision, began.elapsed());
        decision
    }

    async fn ask(&self, attributes: &Attributes) -> Decision {
        let began = Instant::now();
        let mut said = Said::default();
        let mut decided = None;
        for step in self.steps().iter() {
            let decision = match &step.what {
                What::Webhook(webhook) => webhook.ask(attributes).await,
                _ => self.known(step, attributes),
            };
            step.votes.count(&decision);
            decided = said.hear(decision);
            if decided.is_some() {
                break;
            }
        }
        let decision = decided.unwrap_or_else(|| said.end(false));
        self.tally.decided(&decision, began.elapsed());
        decision
    }

    fn rules(&self, user: &User, namespace: &str) -> Known {
        let mut known = Known::default();
        let cannot = |known: &mut Known, who: &str| {
            known.incomplete = true;
            known
                .errors
                .push(format!("{who} authorizer does not support user rule resolution"));
        };
        for step in self.steps().iter() {
            match &step.what {
                What::Node if user.name.starts_with("system:node:") => cannot(&mut known, "node"),
                What::Webhook(_) => cannot(&mut known, "webhook"),
                What::Rbac => {
                    let roles = self.rbac.rules(user, namespace);
                    known.rules.extend(roles.rules);
                    known.errors.extend(roles.errors);
                }
                What::Always(true) => known.rules.extend(super::AllowAll.rules(user, namespace).rules),
                What::Node | What::Always(false) => {}
            }
        }
        known
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
        let chain = Chain::new(Arc::new(Rbac::with_defaults()), &Metrics::new());
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
    fn decisions_are_counted_by_who_makes_them() {
        let metrics = Metrics::new();
        let chain = Chain::new(Arc::new(Rbac::with_defaults()), &metrics);
        chain.decide(&reads_nodes(User::new("system:node:a", &["system:nodes"])));
        chain.decide(&reads_nodes(User::new("jane", &["system:authenticated"])));
        let text = metrics.encode();
        for line in [
            "apiserver_authorization_decisions_total{type=\"Node\",name=\"node\",decision=\"allowed\"} 1",
            "authorization_attempts_total{result=\"allowed\"} 1",
            "authorization_attempts_total{result=\"no-opinion\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn who_cannot_list_what_they_allow_says_so() {
        let chain = chain(&["Node", "RBAC"]);
        let of = |user: &User| chain.rules(user, "default");
        let node = of(&User::new(
            "system:node:a",
            &["system:nodes", "system:authenticated"],
        ));
        assert!(node.incomplete);
        assert_eq!(
            node.errors,
            ["node authorizer does not support user rule resolution"]
        );
        let jane = of(&User::new("jane", &["system:authenticated"]));
        assert!(!jane.incomplete && jane.errors.is_empty() && !jane.rules.is_empty());
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
