//! What controllers of any kind want in pods, read from their `scale`.
//!
//! A reconciler cannot ask the API. It asks here, and gets what was read last; a task reads what is asked
//! for, so that the next look finds it. Nothing tells when a scale changes, so that it is read again
//! when somebody asks after [`STALE`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::kinds;
use api::object;
use api::request::{ResourceRef, Verb};
use api::status::Status;
use base::{OnError, Tasks};
use client::Client;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use tokio::sync::mpsc;

use crate::custom;

/// How long what was read counts as fresh.
pub const STALE: Duration = Duration::from_secs(10);
/// How long what nobody asked for is kept.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The owner of pods: a namespaced object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `StatefulSet`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known of an owner's scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The UID of the object, and the pods that it wants.
    Pods(String, i32),
    /// There is no such object.
    Gone,
    /// It has no scale, or cannot be read: why.
    Unknown(String),
}

struct Known {
    /// `None` until it was read for the first time.
    wanted: Option<Wanted>,
    asked: Timestamp,
}

type Shared = Arc<Mutex<BTreeMap<Owner, Known>>>;

/// The scales of owners. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Scales {
    known: Shared,
    /// What is to be read; nobody listens where scales are set by hand.
    questions: mpsc::UnboundedSender<Owner>,
}

impl Scales {
    /// Nothing is known yet; a task of `tasks` reads what is asked for.
    pub fn start(client: &Client, tasks: &Tasks) -> Self {
        let (questions, asked) = mpsc::unbounded_channel();
        let known = Shared::default();
        let reader = read_all(client.clone(), known.clone(), asked);
        tasks.spawn("reading scales", OnError::Log, reader);
        Self { known, questions }
    }

    /// Those and no others, for ever.
    pub fn fixed(scales: impl IntoIterator<Item = (Owner, Wanted)>) -> Self {
        let known = |(owner, wanted)| {
            let wanted = Some(wanted);
            let asked = Timestamp::MIN;
            (owner, Known { wanted, asked })
        };
        Self {
            known: Arc::new(Mutex::new(scales.into_iter().map(known).collect())),
            questions: mpsc::unbounded_channel().0,
        }
    }

    /// What was read last; `None` when nothing has been so far.
    pub fn get(&self, owner: &Owner, now: Timestamp) -> Option<Wanted> {
        let mut known = locked(&self.known);
        let age = |known: &Known| Duration::try_from(now.duration_since(known.asked)).unwrap_or_default();
        let found = known.get(owner);
        let wanted = found.and_then(|known| known.wanted.clone());
        if found.is_none_or(|known| age(known) > STALE) {
            known.retain(|_, known| age(known) < FORGOTTEN);
            let (wanted, asked) = (wanted.clone(), now);
            known.insert(owner.clone(), Known { wanted, asked });
            // An error means that the task is over, and with it the controllers.
            let _ = self.questions.send(owner.clone());
        }
        wanted
    }
}

fn locked(known: &Mutex<BTreeMap<Owner, Known>>) -> MutexGuard<'_, BTreeMap<Owner, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_all(client: Client, known: Shared, mut asked: mpsc::UnboundedReceiver<Owner>) {
    while let Some(owner) = asked.recv().await {
        let wanted = read(&client, &owner).await;
        if let Some(known) = locked(&known).get_mut(&owner) {
            known.wanted = Some(wanted);
        }
    }
}

/// Reads one scale.
async fn read(client: &Client, owner: &Owner) -> Wanted {
    let resource = match resource_of(client, owner).await {
        Ok(Some(resource)) => resource,
        Ok(None) => {
            let (kind, version) = (&owner.kind, &owner.api_version);
            return Wanted::Unknown(format!("no matches for kind {kind:?} in version {version:?}"));
        }
        Err(status) => return Wanted::Unknown(status.to_string()),
    };
    let get = |subresource: &str| {
        let mut request = client.request_for(Verb::Get, resource.clone(), &owner.namespace, &owner.name);
        request.subresource = subresource.to_owned();
        client.call(request)
    };
    let read = get("scale").await.and_then(|reply| {
        let scale: Scale = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
        let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok(Wanted::Pods(scale.metadata.uid.unwrap_or_default(), replicas))
    });
    match read {
        Ok(wanted) => wanted,
        // Either the object is not there, or its kind has no scale.
        Err(status) if status.is_not_found() => match get("").await {
            Ok(_) => {
                let ResourceRef { group, plural, .. } = &resource;
                let dot = if group.is_empty() { "" } else { "." };
                let what = format!("{plural}{dot}{group}");
                Wanted::Unknown(format!("{what} does not implement the scale subresource"))
            }
            Err(status) if status.is_not_found() => Wanted::Gone,
            Err(status) => Wanted::Unknown(status.to_string()),
        },
        Err(status) => Wanted::Unknown(status.to_string()),
    }
}

/// The path of an owner's kind, in the version that the reference names.
async fn resource_of(client: &Client, owner: &Owner) -> Result<Option<ResourceRef>, Status> {
    let (group, version) = object::split_api_version(&owner.api_version);
    if let Some(kind) = kinds::find_kind(group, version, &owner.kind) {
        return Ok(Some(ResourceRef::new(group, version, kind.plural)));
    }
    let found = custom::all(client)
        .await?
        .into_iter()
        .find(|custom| custom.kind == owner.kind && custom.resource.group == group && custom.namespaced);
    Ok(found.map(|custom| ResourceRef::new(group, version, &custom.resource.plural)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use api::request::{EventStream, Reply, Request, User};
    use async_trait::async_trait;
    use client::Api;

    /// A server that has one StatefulSet and one Job, and counts what it is asked.
    #[derive(Default)]
    struct Server(Mutex<Vec<String>>);

    #[async_trait]
    impl Api for Server {
        async fn call(&self, request: Request) -> Result<Reply, Status> {
            let path = format!(
                "{}/{}/{}",
                request.resource.plural, request.name, request.subresource
            );
            self.0.lock().unwrap().push(path.clone());
            let body = match path.as_str() {
                "statefulsets/db/scale" => r#"{"metadata":{"name":"db","uid":"u1"},"spec":{"replicas":3}}"#,
                "jobs/once/" | "customresourcedefinitions//" => {
                    r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#
                }
                _ => return Err(Status::not_found("", &request.resource.plural, &request.name)),
            };
            Ok(Reply {
                code: 200,
                body: body.into(),
                warnings: Vec::new(),
            })
        }

        async fn watch(&self, _: Request) -> Result<EventStream, Status> {
            Err(Status::internal("nothing changes here"))
        }
    }

    fn owner(api_version: &str, kind: &str, name: &str) -> Owner {
        Owner {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: "d".into(),
            name: name.into(),
        }
    }

    async fn known(scales: &Scales, owner: &Owner) -> Wanted {
        loop {
            if let Some(wanted) = scales.get(owner, Timestamp::UNIX_EPOCH) {
                return wanted;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_asked_for_is_read() {
        let server = Arc::new(Server::default());
        let client = Client::new(server.clone(), User::new("test", &[]));
        let scales = Scales::start(&client, &Tasks::new());
        let set = owner("apps/v1", "StatefulSet", "db");
        assert_eq!(scales.get(&set, Timestamp::UNIX_EPOCH), None);
        assert_eq!(known(&scales, &set).await, Wanted::Pods("u1".into(), 3));
        assert_eq!(
            known(&scales, &owner("apps/v1", "StatefulSet", "gone")).await,
            Wanted::Gone
        );
        for (strange, why) in [
            (
                owner("batch/v1", "Job", "once"),
                "jobs.batch does not implement the scale subresource",
            ),
            (
                owner("a.io/v1", "Thing", "x"),
                "no matches for kind \"Thing\" in version \"a.io/v1\"",
            ),
        ] {
            assert_eq!(known(&scales, &strange).await, Wanted::Unknown(why.to_owned()));
        }
        let times = |server: &Server| {
            let asked = server.0.lock().unwrap();
            asked
                .iter()
                .filter(|path| *path == "statefulsets/db/scale")
                .count()
        };
        assert_eq!(times(&server), 1);
        // Old, it is still an answer, and read again.
        let later = Timestamp::UNIX_EPOCH + 2 * STALE;
        assert_eq!(scales.get(&set, later), Some(Wanted::Pods("u1".into(), 3)));
        while times(&server) < 2 {
            tokio::task::yield_now().await;
        }
    }
}
