//! What all controllers share: the queue, the clock, the hands.

use std::sync::Arc;
use std::time::Duration;

use api::request::{Reply, Request, ResourceRef, Verb};
use api::status::Status;
use base::{Clock, OnError, Tasks};
use client::{Change, Client, Object, QueueMetrics, Recorder, WorkQueue};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::plan::{Key, Notice, Plan, Target, Write};
use crate::view::View;

/// How long a controller waits for the caches to show its writes before it
/// looks again regardless; only a stuck watch takes this long.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// A controller, reduced to its decisions.
pub trait Reconciler: Send + Sync + 'static {
    /// Name, as it appears in events and logs.
    const NAME: &'static str;
    /// Name of its queue in metrics, where Kubernetes has another for it.
    const QUEUE: &'static str = Self::NAME;

    /// Decides what is to be done about one object. No I/O: the same
    /// arguments always give the same plan.
    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan;

    /// What to write and tell when a planned write was refused with the text `why`; the plan's
    /// later writes were not tried. If this is refused too, the next look will find it out.
    fn failed(&self, _key: &Key, _view: &View, _write: &Write, _why: &str, _now: Timestamp) -> Plan {
        Plan::nothing()
    }
}

/// What a controller needs from its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// The way to the API.
    pub client: Client,
    /// The caches.
    pub view: View,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The tasks that run it.
    pub tasks: Tasks,
    /// Where queues come from.
    pub queues: QueueMetrics,
}

/// A running controller, to be told what to listen to.
pub struct Harness {
    name: &'static str,
    queue: WorkQueue<Key>,
    surroundings: Surroundings,
}

impl Harness {
    /// Starts `workers` workers that reconcile what is added to the queue.
    pub fn start<R: Reconciler>(reconciler: R, workers: usize, surroundings: &Surroundings) -> Self {
        let queue = surroundings.queues.queue(R::QUEUE);
        let reconciler = Arc::new(reconciler);
        let s = surroundings;
        let recorder = Recorder::new(s.client.clone(), R::NAME, "", s.clock.clone(), &s.tasks);
        for _ in 0..workers {
            let worker = Worker {
                reconciler: reconciler.clone(),
                queue: queue.clone(),
                recorder: recorder.clone(),
                surroundings: s.clone(),
            };
            s.tasks.spawn(R::NAME, OnError::Shutdown, worker.run());
        }
        Self {
            name: R::NAME,
            queue,
            surroundings: s.clone(),
        }
    }

    /// Queues a key once the caches are filled; its plans say when it is looked at again.
    pub fn at_start(&self, key: Key) -> &Self {
        self.queue.add(key);
        self
    }

    /// Queues the keys that `map` finds whenever something changes that is no object.
    pub fn on_other<T: Send + Sync + 'static>(
        &self,
        mut changes: watch::Receiver<T>,
        map: impl Fn(&View) -> Vec<Key> + Send + 'static,
    ) -> &Self {
        let (queue, view) = (self.queue.clone(), self.surroundings.view.clone());
        let name = format!("{} watching", self.name);
        let tasks = &self.surroundings.tasks;
        tasks.spawn(name, OnError::Shutdown, async move {
            view.synced().await;
            while changes.changed().await.is_ok() {
                map(&view).into_iter().for_each(|key| queue.add(key));
            }
        });
        self
    }

    /// Queues the keys that `map` finds for each change of a cached kind.
    pub fn on<T: Object>(
        &self,
        mut changes: UnboundedReceiver<Change<T>>,
        map: impl Fn(&T, &View) -> Vec<Key> + Send + 'static,
    ) -> &Self {
        let (queue, view) = (self.queue.clone(), self.surroundings.view.clone());
        let name = format!("{} watching {}", self.name, T::URL_PATH_SEGMENT);
        self.surroundings
            .tasks
            .spawn(name, OnError::Shutdown, async move {
                view.synced().await;
                while let Some(change) = changes.recv().await {
                    if let Change::Applied(_, Some(old)) = &change {
                        map(old, &view).into_iter().for_each(|key| queue.add(key));
                    }
                    map(change.object(), &view)
                        .into_iter()
                        .for_each(|key| queue.add(key));
                }
            });
        self
    }

    /// Queues each object of a kind under its own name.
    pub fn on_each<T: Object>(&self, changes: UnboundedReceiver<Change<T>>) -> &Self {
        self.on(changes, |object, _| vec![Key::of(object)])
    }
}

struct Worker<R> {
    reconciler: Arc<R>,
    queue: WorkQueue<Key>,
    recorder: Recorder,
    surroundings: Surroundings,
}

impl<R: Reconciler> Worker<R> {
    async fn run(self) {
        self.surroundings.view.synced().await;
        while let Some(key) = self.queue.get().await {
            let plan =
                self.reconciler
                    .reconcile(&key, &self.surroundings.view, self.surroundings.clock.now());
            match self.carry_out(&key, &plan).await {
                Ok(()) => {
                    self.queue.forget(&key);
                    if let Some(wait) = plan.again {
                        self.queue.add_after(key.clone(), wait);
                    }
                }
                Err(status) => {
                    let wait = self.queue.add_rate_limited(key.clone());
                    // A conflict, or an object that is gone, only means that the cache lagged;
                    // anything else may need a person.
                    if status.is_conflict() || status.is_not_found() {
                        debug!(controller = R::NAME, ?key, "looked at stale state, trying again");
                    } else {
                        warn!(controller = R::NAME, ?key, error = %status, ?wait, "could not carry out a plan");
                    }
                }
            }
            self.queue.done(&key);
        }
    }

    async fn carry_out(&self, key: &Key, plan: &Plan) -> Result<(), Status> {
        let mut seen = Vec::new();
        let mut result = Ok(());
        let mut done = 0;
        for write in &plan.writes {
            match perform(&self.surroundings.client, write).await {
                Ok(Some(revision)) => seen.push((write.target().resource.clone(), revision)),
                Ok(None) => {}
                Err(status) if is_moot(write, &status) => {
                    debug!(
                        controller = R::NAME,
                        ?key,
                        "its namespace is being removed, and it with it"
                    );
                    break;
                }
                Err(status) => {
                    seen.extend(self.own_up(key, write, &status).await);
                    result = Err(status);
                    break;
                }
            }
            done += 1;
        }
        plan.events
            .iter()
            .filter(|(after, _)| *after <= done)
            .for_each(|(_, notice)| self.tell(notice));
        let view = &self.surroundings.view;
        let _ = tokio::time::timeout(CATCH_UP_MAX, async {
            for (resource, revision) in seen {
                view.caught_up(&resource, revision).await;
            }
        })
        .await;
        result
    }

    /// Carries out what the reconciler wants done about a refused write; the revisions it made.
    async fn own_up(&self, key: &Key, write: &Write, status: &Status) -> Vec<(ResourceRef, u64)> {
        let (view, now) = (&self.surroundings.view, self.surroundings.clock.now());
        let plan = self.reconciler.failed(key, view, write, &status.message, now);
        plan.events.iter().for_each(|(_, notice)| self.tell(notice));
        let mut seen = Vec::new();
        for write in &plan.writes {
            if let Ok(Some(revision)) = perform(&self.surroundings.client, write).await {
                seen.push((write.target().resource.clone(), revision));
            }
        }
        seen
    }

    fn tell(&self, notice: &Notice) {
        self.recorder
            .event(&notice.about, notice.kind, notice.reason, notice.message.clone());
    }
}

/// Whether a write was refused that nobody needs any more: what would have been made would go with its
/// namespace at once, as what it was to be made for does.
fn is_moot(write: &Write, status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    matches!(write, Write::Create(..)) && causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// Carries out one write; returns the revision it made, if it made one.
///
/// # Errors
/// What the API answered, but for a creation of what exists already and a
/// deletion of what is gone or another object by now: those are done.
pub async fn perform(client: &Client, write: &Write) -> Result<Option<u64>, Status> {
    let result = match write {
        Write::Create(target, body) => match client
            .call(request(client, Verb::Create, target, Some(body)))
            .await
        {
            Err(status) if status.is_already_exists() => return Ok(None),
            other => other,
        },
        Write::Update(target, body) => {
            client
                .call(request(client, Verb::Update, target, Some(body)))
                .await
        }
        Write::Patch(target, how, body) => {
            client
                .call(request(client, Verb::Patch(*how), target, Some(body)))
                .await
        }
        Write::Delete {
            target,
            uid,
            propagation,
            grace_seconds,
            version,
        } => {
            let mut asked = request(client, Verb::Delete, target, None);
            asked.options.grace_period_seconds = *grace_seconds;
            asked.options.propagation_policy = propagation.map(|p| p.name().to_owned()).unwrap_or_default();
            asked.options.precondition_uid = Some(uid.clone()).filter(|uid| !uid.is_empty());
            asked.options.precondition_resource_version = version.clone();
            match client.call(asked).await {
                Err(status) if status.is_not_found() => return Ok(None),
                Err(status) if status.is_conflict() => return Ok(None),
                other => other,
            }
        }
    };
    result.map(|reply| revision_of(&reply))
}

fn request(client: &Client, verb: Verb, target: &Target, body: Option<&Value>) -> Request {
    let name = if verb == Verb::Create && target.subresource.is_empty() {
        ""
    } else {
        &target.key.name
    };
    let mut request = client.request_for(verb, target.resource.clone(), &target.key.namespace, name);
    request.subresource = target.subresource.to_owned();
    if let Some(body) = body {
        request.body = body.to_string().into();
    }
    if let Verb::Patch(how) = verb {
        request.content_type = client::url::patch_media_type(how).to_owned();
    }
    request
}

fn revision_of(reply: &Reply) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        #[serde(default)]
        resource_version: String,
    }
    #[derive(serde::Deserialize)]
    struct Head {
        metadata: Meta,
    }
    let head: Head = serde_json::from_slice(&reply.body.whole()).ok()?;
    head.metadata.resource_version.parse().ok()
}

#[cfg(test)]
mod tests {
    use api::status::Cause;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn nothing_is_made_in_a_namespace_that_goes() {
        let pod = Pod::default();
        let mut status = Status::forbidden("", "pods", "", "the namespace is being terminated");
        let create = Write::create(&pod);
        assert!(!is_moot(&create, &status));
        status.details.get_or_insert_default().causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            ..Cause::default()
        });
        assert!(is_moot(&create, &status));
        assert!(!is_moot(&Write::update(&pod), &status));
    }
}
