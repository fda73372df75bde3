use api::request::{EventKind, EventStream, Reply, Request, User, WatchEvent};
use api::status::Status;
use async_trait::async_trait;
use base::Tasks;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::door::Api;
use crate::typed::{Client, Selectors};

fn map(namespace: &str, name: &str, version: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn told(changes: &mut mpsc::UnboundedReceiver<Change<ConfigMap>>) -> Vec<String> {
    let mut out = Vec::new();
    while let Ok(change) = changes.try_recv() {
        let name = change.object().metadata.name.clone().unwrap();
        out.push(match change {
            Change::Applied(_, None) => format!("+{name}"),
            Change::Applied(_, Some(_)) => format!("~{name}"),
            Change::Deleted(_) => format!("-{name}"),
        });
    }
    out
}

#[test]
fn a_relist_tells_only_the_difference() {
    let cache = Cache::fixed([map("x", "a", "1"), map("x", "b", "2"), map("x-y", "c", "3")]);
    let mut changes = cache.changes();
    assert_eq!(told(&mut changes), ["+c", "+a", "+b"]);
    cache.replace(
        vec![map("x", "a", "1"), map("x", "b", "4"), map("z", "d", "5")],
        5,
    );
    assert_eq!(told(&mut changes), ["~b", "+d", "-c"]);
    assert_eq!(cache.list_in("x").len(), 2);
    assert_eq!(cache.revision(), 5);
}

struct Away;

#[async_trait]
impl Api for Away {
    async fn call(&self, _: Request) -> Result<Reply, Status> {
        Err(Status::unavailable("away"))
    }

    async fn watch(&self, _: Request) -> Result<EventStream, Status> {
        Err(Status::unavailable("away"))
    }
}

#[tokio::test]
async fn what_was_known_is_gone_by_only_when_the_server_is_silent() {
    let tasks = Tasks::new();
    let client = Client::new(Arc::new(Away), User::new("nobody", &[]));
    // One that knows nothing has nothing to go by.
    let ignorant = Cache::<ConfigMap>::start(&client, Selectors::all(), &tasks);
    let waiter = tokio::spawn(async move { ignorant.filled().await });
    let began = std::time::Instant::now();
    let known = Some(vec![map("x", "a", "1")]);
    let cache = Cache::resume(&client, Selectors::all(), known, &tasks);
    assert!(cache.get("x", "a").is_some());
    cache.filled().await;
    assert!(began.elapsed() >= FRESH_MAX && !cache.is_synced());
    assert!(!waiter.is_finished());
    tasks.shutdown().await;
}

/// A server with one ConfigMap, whose watches never say anything.
struct Quiet;

#[async_trait]
impl Api for Quiet {
    async fn call(&self, _: Request) -> Result<Reply, Status> {
        let body = serde_json::json!({"metadata": {"resourceVersion": "7"}, "items": [map("x", "a", "1")]});
        Ok(Reply {
            code: 200,
            body: body.to_string().into(),
            warnings: Vec::new(),
        })
    }

    async fn watch(&self, _: Request) -> Result<EventStream, Status> {
        Ok(Box::pin(futures_util::stream::pending()))
    }
}

#[tokio::test]
async fn a_kind_that_goes_is_forgotten_and_found_again() {
    let tasks = Tasks::new();
    let client = Client::new(Arc::new(Quiet), User::new("nobody", &[]));
    let (told, served) = watch::channel(false);
    let cache = Cache::<ConfigMap>::start_while(&client, Selectors::all(), served, &tasks);
    let mut changes = cache.changes();
    cache.synced().await;
    assert_eq!((cache.len(), cache.revision()), (0, 0));
    for _ in 0..2 {
        told.send_replace(true);
        cache.wait_revision(7).await;
        assert_eq!(
            changes.recv().await.unwrap().object().metadata.name.as_deref(),
            Some("a")
        );
        told.send_replace(false);
        assert!(matches!(changes.recv().await, Some(Change::Deleted(_))));
        while cache.revision() > 0 {
            tokio::task::yield_now().await;
        }
    }
    tasks.shutdown().await;
}

/// A server among whose ConfigMaps are some that make no sense.
struct Odd;

impl Odd {
    fn senseless(name: &str, version: &str) -> serde_json::Value {
        serde_json::json!({"metadata": {"namespace": "x", "name": name, "resourceVersion": version}, "data": 7})
    }
}

#[async_trait]
impl Api for Odd {
    async fn call(&self, _: Request) -> Result<Reply, Status> {
        let items = serde_json::json!([Self::senseless("n", "6"), map("x", "a", "1")]);
        let body = serde_json::json!({"metadata": {"resourceVersion": "7"}, "items": items});
        Ok(Reply {
            code: 200,
            body: body.to_string().into(),
            warnings: Vec::new(),
        })
    }

    async fn watch(&self, _: Request) -> Result<EventStream, Status> {
        let event = |kind, object: serde_json::Value| {
            Ok(WatchEvent {
                kind,
                object: object.to_string().into(),
            })
        };
        let b = serde_json::to_value(map("x", "b", "9")).unwrap();
        let events = [
            event(EventKind::Modified, Self::senseless("a", "8")),
            event(EventKind::Added, b),
        ];
        let events = futures_util::stream::iter(events);
        Ok(Box::pin(futures_util::StreamExt::chain(
            events,
            futures_util::stream::pending(),
        )))
    }
}

#[tokio::test]
async fn what_cannot_be_read_hides_nothing_else() {
    let tasks = Tasks::new();
    let client = Client::new(Arc::new(Odd), User::new("nobody", &[]));
    let cache = Cache::<ConfigMap>::start(&client, Selectors::all(), &tasks);
    let mut changes = cache.changes();
    cache.wait_revision(9).await;
    assert_eq!(told(&mut changes), ["+a", "-a", "+b"]);
    tasks.shutdown().await;
}

#[tokio::test]
async fn waiting_for_a_revision() {
    let cache: Cache<ConfigMap> = Cache::empty();
    assert!(!cache.is_synced());
    let waiter = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.wait_revision(7).await })
    };
    cache.reached(6);
    cache.synced().await;
    assert!(!waiter.is_finished());
    cache.reached(7);
    waiter.await.unwrap();
}
