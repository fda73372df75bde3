//! The audit log: who asked for what, and how it ended.
//!
//! ```text
//! request ─▶ Policy ─▶ Trail ─ at each stage an event ─▶ queues ─▶ file, webhook
//! ```
//!
//! Without a policy nothing is recorded, and a request costs a look at nothing.

mod bodies;
mod file;
mod local;
pub mod policy;
mod sinks;
mod trail;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::request::{Notes, User};
use base::telemetry::Metrics;
use base::{Clock, OnError, Tasks};

use crate::outbound::Outbound;

pub use bodies::object;
pub use file::FileSettings;
pub use local::Audited;
pub(crate) use local::Ending;
use policy::{About, Level, Policy, Stage};
use sinks::{Counters, Queue, Sinks};
pub use trail::{Outside, Trail};
pub use webhook::WebhookSettings;

/// What is recorded, and where.
#[derive(Clone, Debug, Default)]
pub struct AuditSettings {
    /// File with the policy; `None` for no log.
    pub policy: Option<PathBuf>,
    /// A file.
    pub file: Option<FileSettings>,
    /// A webhook.
    pub webhook: Option<WebhookSettings>,
}

/// What makes trails. Copies share it.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    policy: Policy,
    sinks: Sinks,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// Reads the policy and starts who writes.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn start(
        settings: &AuditSettings,
        outbound: Outbound,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Result<Self, String> {
        let Some(path) = &settings.policy else {
            return Ok(Self::default());
        };
        let policy = read(path)?;
        let counters = Counters::new(metrics);
        let mut queues = Vec::new();
        if let Some(file) = settings.file.clone() {
            let path = file.path.display().to_string();
            let (sender, queue) = Queue::new(file.event_bytes_max);
            let log = file::Log::open(file).map_err(|error| format!("audit-log-path {path}: {error}"))?;
            queues.push(sender);
            let counters = counters.clone();
            let writer = std::thread::Builder::new().name("audit log".into());
            let write = move || file::write(log, queue, &counters);
            writer
                .spawn(write)
                .map_err(|error| format!("no thread for the audit log: {error}"))?;
        }
        if let Some(webhook) = settings.webhook.clone() {
            let told = webhook::correspondent(&webhook)
                .map_err(|why| format!("audit-webhook-config-file {}: {why}", webhook.config.display()))?;
            let (sender, queue) = Queue::new(webhook.event_bytes_max);
            queues.push(sender);
            let send = webhook::send(webhook, told, outbound, queue, counters.clone());
            tasks.spawn("send audit events", OnError::Shutdown, send);
        }
        let sinks = Sinks::new(queues, counters);
        Ok(Self(Some(Arc::new(Inner { policy, sinks, clock }))))
    }

    /// Whether anything is recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trail of a request that was just received; `None` when it is not recorded.
    pub fn begin(
        &self,
        outside: Outside,
        about: About,
        user: User,
        impersonated: Option<User>,
    ) -> Option<Trail> {
        let inner = self.0.as_ref()?;
        let scope = inner.policy.scope(&user, &about);
        if scope.level == Level::None {
            return None;
        }
        let users = (user, impersonated);
        let trail = Trail::new(
            inner.sinks.clone(),
            inner.clock.clone(),
            outside,
            about,
            users,
            scope,
        );
        trail.at(Stage::RequestReceived, None);
        Some(trail)
    }
}

impl Audit {
    /// Records a request that was refused because nobody knows who sent it.
    pub fn unknown(&self, outside: Outside, about: About, why: &str, notes: &Notes) {
        let Some(inner) = &self.0 else {
            return;
        };
        let nobody = User::default();
        let scope = inner.policy.scope(&nobody, &about);
        if scope.level == Level::None {
            return;
        }
        let (sinks, clock) = (inner.sinks.clone(), inner.clock.clone());
        let trail = Trail::new(sinks, clock, outside, about, (nobody, None), scope);
        trail.follow(notes);
        trail.said(why);
        trail.at(Stage::ResponseStarted, Some(401));
    }
}

fn read(path: &Path) -> Result<Policy, String> {
    let wrong = |why: String| format!("audit-policy-file {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Policy::parse(&text).map_err(wrong)
}
