//! Somebody elsewhere who is asked whether a user may, by SubjectAccessReview.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::cel::{Budget, Program, Scope, Val};
use api::value::{flag, text};
use base::Clock;
use serde_json::{Map, Value, json};

use super::config::ToldWebhook;
use super::tally::Tally;
use super::{Attributes, Decision};
use crate::outbound::{Correspondent, Outbound};
use crate::remembered::{Key, Remembered};

/// What one expression may cost.
const COST_MAX: u64 = 1_000_000;

/// The one who is asked.
pub struct Webhook {
    name: String,
    tally: Tally,
    asked: Correspondent,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    version: String,
    timeout: Duration,
    authorized: Duration,
    unauthorized: Duration,
    denies: bool,
    conditions: Vec<(String, Program)>,
    remembered: Remembered<Decision>,
}

/// A question, as it is sent.
struct Question {
    spec: Value,
    key: Key,
}

impl Webhook {
    /// The one that a configuration tells of.
    ///
    /// # Errors
    /// What is wrong with it, or with the file that it names.
    pub fn new(
        name: &str,
        told: &ToldWebhook,
        tally: &Tally,
        outbound: Outbound,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let file = &told.connection_info.kube_config_file;
        let wrong = |why: String| format!("connectionInfo.kubeConfigFile: {file}: {why}");
        let conditions = told.match_conditions.iter().enumerate().map(|(at, condition)| {
            let source = &condition.expression;
            let wrong = |why| format!("matchConditions[{at}].expression: Invalid value: {source:?}: {why}");
            Ok((
                source.clone(),
                Program::compile(source, &["request"]).map_err(wrong)?,
            ))
        });
        Ok(Self {
            name: name.to_owned(),
            tally: tally.clone(),
            asked: Correspondent::read(Path::new(file)).map_err(wrong)?,
            outbound,
            clock,
            version: told.subject_access_review_version.clone(),
            timeout: told.timeout()?,
            authorized: told.authorized()?,
            unauthorized: told.unauthorized()?,
            denies: told.failure_policy == "Deny",
            conditions: conditions.collect::<Result<_, String>>()?,
            remembered: Remembered::default(),
        })
    }

    /// What is known without asking; one that asks, if nothing is.
    pub fn known(&self, attributes: &Attributes) -> Decision {
        let question = Question::of(attributes);
        self.concerns(&question.spec).unwrap_or_else(|| {
            let asks = Decision {
                asks: true,
                ..Decision::default()
            };
            self.remembered
                .get(&question.key, self.clock.monotonic())
                .unwrap_or(asks)
        })
    }

    /// Asks, unless it is known.
    pub async fn ask(&self, attributes: &Attributes) -> Decision {
        let known = self.known(attributes);
        if !known.asks {
            return known;
        }
        let question = Question::of(attributes);
        let began = Instant::now();
        let answer = self.answer(&question.spec).await;
        let result = match &answer {
            Ok(_) => "success",
            Err(why) if why.ends_with("context deadline exceeded") => "timeout",
            Err(_) => "error",
        };
        let failed_open = answer.is_err() && !self.denies;
        self.tally
            .evaluated(&self.name, result, began.elapsed(), failed_open);
        let decision = match answer {
            Ok(decision) => decision,
            Err(why) => return self.failed(&why),
        };
        let kept = if decision.allowed {
            self.authorized
        } else {
            self.unauthorized
        };
        let until = self.clock.monotonic() + kept;
        self.remembered.keep(question.key, until, decision.clone());
        decision
    }

    async fn answer(&self, spec: &Value) -> Result<Decision, String> {
        let mut spec = spec.clone();
        if self.version == "v1beta1"
            && let Some(groups) = spec.as_object_mut().and_then(|spec| spec.remove("groups"))
        {
            spec["group"] = groups;
        }
        let review = json!({"apiVersion": format!("authorization.k8s.io/{}", self.version),
            "kind": "SubjectAccessReview", "metadata": {"creationTimestamp": null}, "spec": spec,
            "status": {"allowed": false}});
        let said = self.outbound.review(&self.asked, &review, self.timeout).await?;
        read(&said)
    }

    /// A decision that is made already: by the conditions, that this is none of the webhook's business.
    fn concerns(&self, spec: &Value) -> Option<Decision> {
        let mut trouble = Vec::new();
        for (source, program) in &self.conditions {
            let scope = Scope::new().with("request", Val::json(spec, None));
            match program.eval(&scope, &mut Budget::new(COST_MAX)) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Some(Decision::default()),
                Ok(_) => trouble.push(format!("expression '{source}' gave no boolean")),
                Err(why) => trouble.push(format!("expression '{source}' resulted in error: {why}")),
            }
        }
        (!trouble.is_empty()).then(|| self.failed(&trouble.join(", ")))
    }

    /// What it means when nothing could be found out.
    fn failed(&self, why: &str) -> Decision {
        tracing::warn!(
            why,
            webhook = self.asked.endpoint.origin,
            "nobody says whether a user may"
        );
        Decision {
            denied: self.denies,
            broken: true,
            error: why.to_owned(),
            ..Decision::default()
        }
    }
}

/// What a review that was answered says.
fn read(review: &Value) -> Result<Decision, String> {
    let (allowed, denied) = (flag(review, "status.allowed"), flag(review, "status.denied"));
    if allowed && denied {
        return Err("webhook subject access review returned both allow and deny response".into());
    }
    Ok(Decision {
        allowed,
        denied,
        reason: text(review, "status.reason").to_owned(),
        ..Decision::default()
    })
}

impl Question {
    fn of(attributes: &Attributes) -> Self {
        let spec = spec(attributes);
        let key = Remembered::<Decision>::key([&*spec.to_string()]);
        Self { spec, key }
    }
}

/// The specification of a SubjectAccessReview that asks this.
fn spec(attributes: &Attributes) -> Value {
    let texts = |pairs: &[(&str, &str)]| {
        let told = pairs.iter().filter(|(_, text)| !text.is_empty());
        let told = told.map(|(key, text)| ((*key).to_owned(), Value::from(*text)));
        Value::Object(told.collect::<Map<_, _>>())
    };
    let user = &attributes.user;
    let mut spec = texts(&[("user", &user.name), ("uid", &user.uid)]);
    if !user.groups.is_empty() {
        spec["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(*user.extra);
    }
    let about = attributes;
    if !about.resource_request {
        spec["nonResourceAttributes"] = texts(&[("path", &about.path), ("verb", &about.verb)]);
        return spec;
    }
    spec["resourceAttributes"] = texts(&[
        ("namespace", &about.namespace),
        ("verb", &about.verb),
        ("group", &about.group),
        ("version", &about.version),
        ("resource", &about.resource),
        ("subresource", &about.subresource),
        ("name", &about.name),
    ]);
    for (name, selector) in about.narrowing.shown() {
        spec["resourceAttributes"][name] = selector;
    }
    spec
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use base::SystemClock;
    use base::telemetry::Metrics;
    use proptest::prelude::*;

    use super::super::config::{Condition, Connection};
    use super::super::narrowing::Narrowing;
    use super::*;

    fn webhook(conditions: &[&str], policy: &str) -> Webhook {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("webhook");
        let leads = json!({"apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1/authorize"}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]});
        std::fs::write(&file, leads.to_string()).unwrap();
        let condition = |expression: &&str| Condition {
            expression: (*expression).to_owned(),
        };
        let told = ToldWebhook {
            timeout: "1s".into(),
            failure_policy: policy.into(),
            subject_access_review_version: "v1".into(),
            connection_info: Connection {
                sort: "KubeConfigFile".into(),
                kube_config_file: file.display().to_string(),
            },
            match_conditions: conditions.iter().map(condition).collect(),
            ..ToldWebhook::default()
        };
        let tally = Tally::new(&Metrics::new());
        let clock = Arc::new(SystemClock::new());
        Webhook::new("w", &told, &tally, Outbound::to_hosts(), clock).unwrap()
    }

    fn pods(namespace: &str) -> Attributes {
        Attributes {
            user: User::new("jane", &["dev"]),
            verb: "get".into(),
            resource_request: true,
            resource: "pods".into(),
            namespace: namespace.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn questions_are_asked_as_kubernetes_does() {
        let expected = json!({"user": "jane", "groups": ["dev"],
            "resourceAttributes": {"namespace": "a", "verb": "get", "resource": "pods"}});
        assert_eq!(spec(&pods("a")), expected);
        let narrowed = Attributes {
            narrowing: Narrowing::of_texts("spec.nodeName=a", ""),
            ..pods("a")
        };
        assert_eq!(
            spec(&narrowed)["resourceAttributes"]["fieldSelector"],
            json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]})
        );
        let path = Attributes::of_path(&User::anonymous(), "get", "/metrics");
        assert_eq!(
            spec(&path)["nonResourceAttributes"],
            json!({"path": "/metrics", "verb": "get"})
        );
    }

    #[test]
    fn conditions_say_whose_business_it_is() {
        let of_a = webhook(
            &[
                "has(request.resourceAttributes)",
                "request.resourceAttributes.namespace == 'a'",
            ],
            "Deny",
        );
        assert!(of_a.known(&pods("a")).asks);
        assert_eq!(of_a.known(&pods("b")), Decision::default());
        let path = Attributes::of_path(&User::anonymous(), "get", "/metrics");
        assert_eq!(of_a.known(&path), Decision::default());
        let wrong = webhook(&["request.resourceAttributes.namespace == 'a'"], "Deny");
        let decision = wrong.known(&path);
        assert!(
            decision.denied && decision.broken && decision.error.contains("resulted in error"),
            "{decision:?}"
        );
        assert!(
            !webhook(&["request.resourceAttributes.name == 'a'"], "NoOpinion")
                .known(&path)
                .denied
        );
    }

    proptest! {
        #[test]
        fn a_damaged_refusal_is_no_consent(seed: u64) {
            let no = json!({"status": {"allowed": false, "denied": true, "reason": "no"}});
            let mut bytes = no.to_string().into_bytes();
            base::SeededRandom::new(seed).damage(&mut bytes);
            let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            prop_assert!(!read(&review).is_ok_and(|decision| decision.allowed), "{review}");
        }
    }

    #[test]
    fn an_answer_is_read() {
        let of = |status: Value| read(&json!({ "status": status }));
        let yes = of(json!({"allowed": true, "reason": "for now"})).unwrap();
        assert!(yes.allowed && yes.reason == "for now");
        assert!(of(json!({"allowed": false, "denied": true})).unwrap().denied);
        assert_eq!(of(json!({"allowed": false})), Ok(Decision::default()));
        assert!(of(json!({"allowed": true, "denied": true})).is_err());
    }

    #[tokio::test]
    async fn one_who_does_not_answer_is_as_the_policy_says() {
        let decision = webhook(&[], "Deny").ask(&pods("a")).await;
        assert!(decision.denied && decision.broken, "{decision:?}");
        let decision = webhook(&[], "NoOpinion").ask(&pods("a")).await;
        assert!(!decision.denied && decision.broken, "{decision:?}");
    }
}
