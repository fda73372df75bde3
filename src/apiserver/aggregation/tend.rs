//! Looking after those who extend the API: whether they answer, and what they say they serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::object;
use api::request::{Request, ResourceRef, User, Verb};
use api::status::Status;
use client::ApiRef;
use futures_util::future::BoxFuture;
use serde_json::Value;
use store::Leadership;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::availability::{Verdict, asked, whereabouts};
use super::{Aggregation, Remote};
use crate::priorities::REGISTRATION;
use crate::registry::condition;

/// How often it is seen whether anybody has to be asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often one is asked that answered, and one that did not.
const WELL_EVERY: Duration = Duration::from_secs(30);
const UNWELL_EVERY: Duration = Duration::from_secs(2);
/// How long an answer may take, and a document.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const DOCUMENT_WITHIN: Duration = Duration::from_secs(30);

/// One that was asked, and what came of it.
struct Asked {
    when: Instant,
    remote: Arc<Remote>,
    whereabouts: Result<String, Verdict>,
    verdict: Verdict,
}

impl Asked {
    /// Whether to ask again: something about it has changed, or time has passed.
    fn is_stale(&self, remote: &Remote, whereabouts: &Result<String, Verdict>, now: Instant) -> bool {
        let every = if self.verdict.available {
            WELL_EVERY
        } else {
            UNWELL_EVERY
        };
        self.remote.endpoint != remote.endpoint
            || self.whereabouts != *whereabouts
            || now.duration_since(self.when) >= every
    }
}

/// Tasks of which each name has one at most, so that nobody waits for another's. They end with this.
struct OneEach<T> {
    tasks: JoinSet<T>,
    names: HashMap<Id, String>,
}

impl<T> Default for OneEach<T> {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }
}

impl<T: Send + 'static> OneEach<T> {
    /// Starts a task, unless that name's is still under way.
    fn start(&mut self, name: &str, work: impl Future<Output = T> + Send + 'static) {
        if !self.names.values().any(|busy| busy == name) {
            let task = self.tasks.spawn(work);
            self.names.insert(task.id(), name.to_owned());
        }
    }

    /// What comes of the one that ends next; nothing ever, while there is none.
    async fn next(&mut self) -> (String, T) {
        loop {
            match self.tasks.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((task, value))) => {
                    return (self.names.remove(&task).unwrap_or_default(), value);
                }
                // It panicked, and may be tried again.
                Some(Err(error)) => drop(self.names.remove(&error.id())),
            }
        }
    }
}

impl Aggregation {
    /// Looks after all of them, for ever. Who leads writes down what comes of it. (Boxed, because the compiler loses
    /// its way in what so many futures contain.)
    pub fn tend(
        self: Arc<Self>,
        api: ApiRef,
        leadership: watch::Receiver<Leadership>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(self.tended(api, leadership))
    }

    async fn tended(self: Arc<Self>, api: ApiRef, leadership: watch::Receiver<Leadership>) {
        let mut known: HashMap<String, Asked> = HashMap::new();
        let (mut asking, mut learning) = (OneEach::<Asked>::default(), OneEach::<()>::default());
        let mut changes = self.others.changes();
        loop {
            changes.mark_unchanged();
            let remotes: Vec<Arc<Remote>> = self.others.all().into_iter().map(|(remote, _)| remote).collect();
            known.retain(|name, _| {
                let stays = remotes.iter().any(|remote| remote.name == *name);
                if !stays {
                    self.series.gone(name);
                }
                stays
            });
            for remote in &remotes {
                let whereabouts = self.whereabouts_of(remote);
                let before = known.get(&remote.name);
                if before.is_none_or(|before| before.is_stale(remote, &whereabouts, Instant::now())) {
                    let asked = self.clone().ask(remote.clone(), whereabouts);
                    asking.start(&remote.name, asked);
                }
            }
            let leads = leadership.borrow().leads;
            for (name, asked) in known.iter().filter(|_| leads) {
                if let Err(status) = self.tell(&api, name, &asked.verdict).await {
                    tracing::warn!(service = name, %status, "could not write down whether it is available");
                }
            }
            tokio::select! {
                (name, asked) = asking.next() => {
                    let found = asked.verdict.available.then_some(()).ok_or(asked.verdict.reason);
                    self.series.looked_at(&name, found);
                    if asked.verdict.available {
                        learning.start(&name, self.clone().learn(asked.remote.clone()));
                    }
                    known.insert(name, asked);
                }
                _ = learning.next() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY), if !remotes.is_empty() => {}
            }
        }
    }

    /// Where one is, as far as Services and EndpointSlices tell.
    fn whereabouts_of(&self, remote: &Remote) -> Result<String, Verdict> {
        let (namespace, name) = (&remote.namespace, &remote.service);
        let service = self
            .lookup
            .find("", "services", namespace, name)
            .and_then(|found| parsed(&found.text));
        let slices: Vec<Value> = self
            .lookup
            .selected("discovery.k8s.io", "endpointslices", namespace, "", "")
            .iter()
            .filter_map(|found| parsed(&found.text))
            .filter(|slice| object::label(slice, "kubernetes.io/service-name") == Some(name))
            .collect();
        whereabouts(remote, service.as_ref(), &slices)
    }

    /// Asks one whether it answers, and what it serves.
    async fn ask(self: Arc<Self>, remote: Arc<Remote>, whereabouts: Result<String, Verdict>) -> Asked {
        let verdict = match &whereabouts {
            Ok(url) => self.answers(&remote, url).await,
            Err(verdict) => verdict.clone(),
        };
        Asked {
            when: Instant::now(),
            remote,
            whereabouts,
            verdict,
        }
    }

    async fn answers(&self, remote: &Remote, url: &str) -> Verdict {
        let answer = self.fetch(remote, &remote.root(), ANSWER_WITHIN).await;
        let verdict = asked(url, &answer.as_ref().map(|(code, _)| *code).map_err(Clone::clone));
        if let (true, Ok((_, body))) = (verdict.available, answer) {
            let list: Value = serde_json::from_slice(&body).unwrap_or_default();
            let resources = object::get_list(&list, &["resources"]).to_vec();
            self.others
                .learned(&remote.name, |said| said.resources = resources);
        }
        verdict
    }

    /// Fetches the documents of one. What hangs over them says nothing of whether it is available.
    async fn learn(self: Arc<Self>, remote: Arc<Remote>) {
        let v2 = self.document(&remote, "/openapi/v2").await.unwrap_or_default();
        let v3 = self.openapi_v3(&remote).await.unwrap_or_default();
        self.others.learned(&remote.name, |said| {
            (said.openapi_v2, said.openapi_v3) = (v2, v3);
        });
    }

    async fn document(&self, remote: &Remote, path: &str) -> Option<bytes::Bytes> {
        let answer = self.fetch(remote, path, DOCUMENT_WITHIN).await;
        answer.ok().filter(|(code, _)| *code == 200).map(|(_, body)| body)
    }

    async fn openapi_v3(&self, remote: &Remote) -> Option<String> {
        let index = parsed(&self.document(remote, "/openapi/v3").await?)?;
        let place = format!("apis/{}", remote.group_version());
        index["paths"][place]["serverRelativeURL"]
            .as_str()
            .map(str::to_owned)
    }

    /// Writes the condition down, unless it stands there already.
    async fn tell(&self, api: &ApiRef, name: &str, verdict: &Verdict) -> Result<(), Status> {
        let Some(live) = self.lookup.find(REGISTRATION, "apiservices", "", name) else {
            return Ok(());
        };
        let live: Value = serde_json::from_slice(&live.text).map_err(Status::internal)?;
        let Some(new) = condition(&live, "Available", verdict.says(), self.clock.now()) else {
            return Ok(());
        };
        let user = User::new("system:kube-aggregator", &["system:masters"]);
        let place = ResourceRef::new(REGISTRATION, "v1", "apiservices");
        let mut request = Request::new(user, Verb::Update, place, "", name);
        request.subresource = "status".to_owned();
        request.body = new.to_string().into();
        match api.call(request).await {
            // What was in the way comes as a change, and is looked at again.
            Err(status) if status.is_conflict() || status.is_not_found() => Ok(()),
            done => done.map(drop),
        }
    }
}

fn parsed(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::remote::tests::service;
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_another() {
        let mut tasks = OneEach::default();
        tasks.start("hangs", std::future::pending());
        tasks.start("hangs", async { 1 });
        tasks.start("answers", async { 2 });
        assert_eq!(tasks.next().await, ("answers".to_owned(), 2));
        tasks.start("answers", async { 3 });
        assert_eq!(tasks.next().await, ("answers".to_owned(), 3));
        assert_eq!(tasks.names.len(), 1);
    }

    #[test]
    fn changes_are_looked_at_at_once_and_nothing_for_ever() {
        let remote = Arc::new(Remote::of(&service("a.example.com", "v1")).unwrap());
        let (when, url) = (Instant::now(), Ok("https://10.43.0.9".to_owned()));
        let mut told = Asked {
            when,
            remote: remote.clone(),
            whereabouts: url.clone(),
            verdict: asked("U", &Ok(200)),
        };
        assert!(!told.is_stale(&remote, &url, when + UNWELL_EVERY));
        assert!(told.is_stale(&remote, &url, when + WELL_EVERY));
        assert!(told.is_stale(&remote, &Ok("https://10.43.0.10".to_owned()), when));
        let mut moved = Remote::clone(&remote);
        moved.endpoint = Err("no PEM".to_owned());
        assert!(told.is_stale(&moved, &url, when));
        told.verdict = asked("U", &Ok(500));
        assert!(told.is_stale(&remote, &url, when + UNWELL_EVERY));
    }
}
