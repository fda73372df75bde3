//! What is known of one request for the audit log, and the events that are made of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::object;
use api::request::{Notes, User};
use api::status::Status;
use api::text::Text;
use base::Clock;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::policy::{About, Level, Scope, Stage};
use super::sinks::Sinks;
use crate::admission::webhooks::PATCH;

/// What a request looked like from outside.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Its id, which the answer carries too.
    pub id: String,
    /// Path and query.
    pub uri: String,
    /// Where it came from.
    pub sources: Vec<String>,
    /// What the client calls itself.
    pub agent: String,
}

/// The trail of one request. Copies share it.
#[derive(Clone)]
pub struct Trail(Arc<Shared>);

struct Shared {
    sinks: Sinks,
    clock: Arc<dyn Clock>,
    outside: Outside,
    about: About,
    user: User,
    impersonated: Option<User>,
    scope: Scope,
    received: Timestamp,
    // A std mutex: nothing awaits while it is held.
    found: Mutex<Found>,
}

/// What was found out on the way.
#[derive(Default)]
struct Found {
    notes: Notes,
    name: String,
    request: Option<Value>,
    response: Option<Text>,
    failure: Option<Value>,
}

impl Trail {
    pub(super) fn new(
        sinks: Sinks,
        clock: Arc<dyn Clock>,
        outside: Outside,
        about: About,
        (user, impersonated): (User, Option<User>),
        scope: Scope,
    ) -> Self {
        Self(Arc::new(Shared {
            sinks,
            received: clock.now(),
            clock,
            outside,
            about,
            user,
            impersonated,
            scope,
            found: Mutex::default(),
        }))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the request is about.
    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// Notes that others make on the way, such as admission plugins.
    pub fn notes(&self) -> Notes {
        self.found().notes.clone()
    }

    /// Takes over the notes of a request.
    pub fn follow(&self, notes: &Notes) {
        self.found().notes = notes.clone();
    }

    /// Whether bodies are recorded.
    pub fn wants_bodies(&self) -> bool {
        self.0.scope.level >= Level::Request
    }

    /// The body, as an object.
    pub fn asked(&self, body: Value) {
        let mut found = self.found();
        if found.name.is_empty() {
            object::name(&body).clone_into(&mut found.name);
        }
        found.request = Some(body);
    }

    /// The answer's body.
    pub fn answered(&self, body: &Text) {
        if self.0.scope.level >= Level::RequestResponse {
            self.found().response = Some(body.clone());
        }
    }

    /// The request was refused, or failed.
    pub fn failed(&self, status: &Status) {
        self.found().failure = Some(status.to_value());
    }

    /// The request was refused, for a reason that only the log is told.
    pub fn said(&self, why: &str) {
        self.found().failure = Some(json!({ "message": why }));
    }

    /// Records that the request has come so far, and with which code it was answered.
    pub fn at(&self, stage: Stage, code: Option<u16>) {
        if self.0.scope.omitted.contains(&stage) {
            return;
        }
        let event = self.event(stage, code);
        self.0.sinks.send(&event);
    }

    fn event(&self, stage: Stage, code: Option<u16>) -> Value {
        let (all, found) = (&self.0, self.found());
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", all.scope.level.name().into());
        put("auditID", all.outside.id.as_str().into());
        put("stage", stage.name().into());
        put("requestURI", all.outside.uri.as_str().into());
        put("verb", all.about.verb.as_str().into());
        put("user", all.user.info());
        if let Some(user) = &all.impersonated {
            put("impersonatedUser", user.info());
        }
        if !all.outside.sources.is_empty() {
            put("sourceIPs", all.outside.sources.clone().into());
        }
        if !all.outside.agent.is_empty() {
            put("userAgent", all.outside.agent.as_str().into());
        }
        if all.about.is_resource {
            put("objectRef", reference(&all.about, &found.name));
        }
        if let Some(code) = code {
            put("responseStatus", status(code, found.failure.as_ref()));
        }
        if stage != Stage::RequestReceived {
            if let Some(body) = &found.request {
                put("requestObject", self.shown(body.clone()));
            }
            let response = found
                .response
                .as_ref()
                .and_then(|body| serde_json::from_slice(&body.whole()).ok());
            if let Some(body) = response {
                put("responseObject", self.shown(body));
            }
        }
        put(
            "requestReceivedTimestamp",
            object::micro_time_text(all.received).into(),
        );
        put("stageTimestamp", object::micro_time_text(all.clock.now()).into());
        let mut annotations = found.notes.annotations();
        if !self.wants_bodies() {
            annotations.retain(|key, _| !key.starts_with(PATCH));
        }
        if !annotations.is_empty() {
            put("annotations", json!(annotations));
        }
        Value::Object(out)
    }

    fn shown(&self, mut body: Value) -> Value {
        if self.0.scope.without_managed_fields {
            object::remove(&mut body, &["metadata", "managedFields"]);
            api::value::each(&mut body, "items", |item| {
                object::remove(item, &["metadata", "managedFields"]);
            });
        }
        body
    }
}

fn reference(about: &About, found: &str) -> Value {
    let name = if about.name.is_empty() { found } else { &about.name };
    let mut out = Map::new();
    for (key, text) in [
        ("resource", about.plural.as_str()),
        ("namespace", &about.namespace),
        ("name", name),
        ("apiGroup", &about.group),
        ("apiVersion", &about.version),
        ("subresource", &about.subresource),
    ] {
        if !text.is_empty() {
            out.insert(key.to_owned(), text.into());
        }
    }
    Value::Object(out)
}

fn status(code: u16, failure: Option<&Value>) -> Value {
    let mut status = json!({"metadata": {}});
    for key in ["status", "message", "reason", "details"] {
        if let Some(value) = failure
            .and_then(|failure| failure.get(key))
            .filter(|value| !value.is_null())
        {
            status[key] = value.clone();
        }
    }
    status["code"] = code.into();
    status
}

#[cfg(test)]
mod tests {
    use base::SystemClock;

    use super::super::sinks;
    use super::*;

    #[test]
    fn an_event_says_who_did_what_and_how_it_ended() {
        let (sinks, lines) = sinks::tests::memory();
        let about = About {
            verb: "create".into(),
            is_resource: true,
            version: "v1".into(),
            plural: "pods".into(),
            namespace: "shop".into(),
            ..About::default()
        };
        let outside = Outside {
            id: "id-1".into(),
            uri: "/api/v1/namespaces/shop/pods".into(),
            sources: vec!["192.0.2.1".into()],
            agent: "kubectl".into(),
        };
        let scope = Scope {
            level: Level::RequestResponse,
            omitted: vec![Stage::RequestReceived],
            without_managed_fields: true,
        };
        let users = (User::new("ann", &["dev"]), Some(User::new("bot", &[])));
        let trail = Trail::new(sinks, Arc::new(SystemClock::new()), outside, about, users, scope);
        trail.at(Stage::RequestReceived, None);
        trail.asked(json!({"metadata": {"name": "web", "managedFields": [{}]}}));
        trail.notes().annotate("authorization.k8s.io/decision", "allow");
        trail.answered(&"{\"kind\":\"Pod\"}".into());
        trail.at(Stage::ResponseComplete, Some(201));
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1, "the first stage is omitted");
        let event = &lines[0];
        assert_eq!(
            event["objectRef"],
            json!({"resource": "pods", "namespace": "shop", "name": "web", "apiVersion": "v1"})
        );
        assert_eq!(event["requestObject"], json!({"metadata": {"name": "web"}}));
        assert_eq!(event["responseObject"], json!({"kind": "Pod"}));
        assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
        assert_eq!(
            (&event["user"]["username"], &event["impersonatedUser"]["username"]),
            (&json!("ann"), &json!("bot"))
        );
    }
}
