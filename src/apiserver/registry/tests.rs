//! The registry over a real store in a temporary folder.

use std::sync::Arc;

use api::request::{EventKind, Options, PatchType, Reply, Request, ResourceRef, User, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::{ManualClock, SeededRandom};
use client::Api;
use futures_util::StreamExt;
use serde_json::{Value, json};
use store::{Store, StoreConfig};
use tempfile::TempDir;

use crate::authz::{AllowAll, Authorizer};
use crate::tokens::{IssuedToken, TokenSpec, Tokens};

use super::{Core, CoreConfig};

mod custom;
mod every_kind;
mod list_rules;
mod policies;
mod standard;

struct NoTokens;

#[async_trait]
impl Tokens for NoTokens {
    fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, Status> {
        let token = format!(
            "{}/{}/{:?}",
            spec.namespace,
            spec.name,
            spec.bound.as_ref().map(|b| &b.name)
        );
        let expires = jiff::Timestamp::UNIX_EPOCH;
        Ok(IssuedToken {
            token,
            expires,
            audiences: vec!["api".into()],
        })
    }

    async fn review(&self, token: &str, _: &[String]) -> Result<(User, Vec<String>), String> {
        if token == "good" {
            Ok((User::new("eve", &["g"]), Vec::new()))
        } else {
            Err("bad token".into())
        }
    }
}

struct World {
    core: Core,
    _folder: TempDir,
}

impl Drop for World {
    /// RocksDB must be shut before the process ends, and a test has no other end than this.
    fn drop(&mut self) {
        let store = self.core.store().clone();
        let close = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(store.close());
        };
        std::thread::spawn(close).join().unwrap();
    }
}

async fn world() -> World {
    world_of(Arc::new(AllowAll)).await
}

async fn world_of(authorizer: Arc<dyn Authorizer>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::new(folder.path())).await.unwrap();
    let mut config = CoreConfig::new([10, 0, 0, 5].into(), 6443);
    config.clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    config.random = Arc::new(SeededRandom::new(7));
    let core = Core::new(store, config, authorizer, Arc::new(NoTokens)).unwrap();
    core.bootstrap().await.unwrap();
    tokio::spawn(core.clone().tend_definitions(core.load_definitions()));
    let revision = core.dynamic().load(core.store());
    tokio::spawn(core.dynamic().clone().follow(core.store().clone(), revision));
    World {
        core,
        _folder: folder,
    }
}

fn request(verb: Verb, resource: (&str, &str), namespace: &str, name: &str) -> Request {
    let resource = ResourceRef::new(resource.0, "v1", resource.1);
    let mut request = Request::new(
        User::new("admin", &["system:masters"]),
        verb,
        resource,
        namespace,
        name,
    );
    request.options.field_manager = "test".into();
    request
}

impl World {
    async fn call(&self, request: Request) -> Result<Value, Status> {
        self.reply(request).await.map(|reply| value(&reply))
    }

    async fn reply(&self, request: Request) -> Result<Reply, Status> {
        self.core.call(request).await
    }

    async fn create(&self, resource: (&str, &str), namespace: &str, body: Value) -> Result<Value, Status> {
        let mut request = request(Verb::Create, resource, namespace, "");
        request.body = body.to_string().into();
        self.call(request).await
    }

    async fn update(&self, resource: (&str, &str), part: &str, body: Value) -> Result<Value, Status> {
        let (namespace, name) = (text(&body, "/metadata/namespace"), text(&body, "/metadata/name"));
        let mut request = request(Verb::Update, resource, &namespace, &name);
        request.subresource = part.into();
        request.body = body.to_string().into();
        self.call(request).await
    }

    async fn patch(
        &self,
        how: PatchType,
        resource: (&str, &str),
        name: &str,
        body: Value,
    ) -> Result<Value, Status> {
        let mut request = request(Verb::Patch(how), resource, "default", name);
        request.body = body.to_string().into();
        self.call(request).await
    }

    async fn get(&self, resource: (&str, &str), name: &str) -> Result<Value, Status> {
        self.call(request(Verb::Get, resource, "default", name)).await
    }

    async fn delete(&self, resource: (&str, &str), name: &str, options: Options) -> Result<Value, Status> {
        let mut request = request(Verb::Delete, resource, "default", name);
        request.options = options;
        self.call(request).await
    }

    async fn list(&self, resource: (&str, &str), options: Options) -> Result<Value, Status> {
        let mut request = request(Verb::List, resource, "default", "");
        request.options = options;
        self.call(request).await
    }

    /// The account that every pod needs, which a controller makes in real life.
    async fn with_account(self) -> Self {
        self.create(ACCOUNTS, "default", json!({"metadata": {"name": "default"}}))
            .await
            .unwrap();
        self
    }
}

fn value(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
           "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

const MAPS: (&str, &str) = ("", "configmaps");
const PODS: (&str, &str) = ("", "pods");
const SERVICES: (&str, &str) = ("", "services");
const ACCOUNTS: (&str, &str) = ("", "serviceaccounts");

#[tokio::test]
async fn an_object_lives_its_life() {
    let world = world().await;
    let made = world
        .create(MAPS, "default", config_map("a", json!({"k": "v"})))
        .await
        .unwrap();
    assert_eq!(text(&made, "/metadata/creationTimestamp"), "2026-01-02T03:04:05Z");
    assert_eq!(text(&made, "/metadata/uid").len(), 36);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "test");
    assert_eq!(world.get(MAPS, "a").await.unwrap(), made);
    let again = world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(again.message, "configmaps \"a\" already exists");

    let mut new = made.clone();
    new["data"]["k"] = "w".into();
    let changed = world.update(MAPS, "", new.clone()).await.unwrap();
    assert_ne!(
        text(&changed, "/metadata/resourceVersion"),
        text(&made, "/metadata/resourceVersion")
    );
    let stale = world.update(MAPS, "", new).await.unwrap_err();
    assert_eq!(stale.message, Status::stale("", "configmaps", "a").message);
    let same = world.update(MAPS, "", changed.clone()).await.unwrap();
    assert_eq!(same, changed, "a write that changes nothing makes no revision");

    let gone = world.delete(MAPS, "a", Options::default()).await.unwrap();
    assert_eq!(
        (gone["status"].as_str(), gone["details"]["kind"].as_str()),
        (Some("Success"), Some("configmaps"))
    );
    let missing = world.get(MAPS, "a").await.unwrap_err();
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "configmaps \"a\" not found")
    );
}

#[tokio::test]
async fn names_are_generated_and_namespaces_must_exist() {
    let world = world().await;
    let body = json!({"metadata": {"generateName": "a-"}});
    let first = world.create(MAPS, "default", body.clone()).await.unwrap();
    let second = world.create(MAPS, "default", body.clone()).await.unwrap();
    assert_ne!(text(&first, "/metadata/name"), text(&second, "/metadata/name"));
    assert_eq!(text(&first, "/metadata/name").len(), 7);
    let nowhere = world.create(MAPS, "nowhere", body).await.unwrap_err();
    assert_eq!(
        (nowhere.code, nowhere.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    let bad = world
        .create(MAPS, "default", config_map("Bad_Name", json!({})))
        .await
        .unwrap_err();
    assert_eq!((bad.code, bad.reason.as_str()), (422, "Invalid"));
    let other = world
        .create(MAPS, "kube-system", config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(other.code, 400);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = world().await;
    for n in 0..5 {
        let mut map = config_map(&format!("m{n}"), json!({}));
        map["metadata"]["labels"] = json!({"odd": (n % 2).to_string()});
        world.create(MAPS, "default", map).await.unwrap();
    }
    let all = world.list(MAPS, Options::default()).await.unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 5);
    assert_eq!(all["kind"], "ConfigMapList");
    let mut options = Options {
        limit: 2,
        ..Options::default()
    };
    let mut seen = Vec::new();
    let mut remaining = Vec::new();
    loop {
        let page = world.list(MAPS, options.clone()).await.unwrap();
        assert_eq!(
            page["metadata"]["resourceVersion"],
            all["metadata"]["resourceVersion"]
        );
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| text(i, "/metadata/name")),
        );
        remaining.push(page["metadata"]["remainingItemCount"].as_u64());
        options.continue_token = text(&page, "/metadata/continue");
        if options.continue_token.is_empty() {
            break;
        }
        // What is written meanwhile belongs to no page of this list.
        world
            .create(MAPS, "default", json!({"metadata": {"generateName": "m9"}}))
            .await
            .unwrap();
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(remaining, [Some(3), Some(1), None]);
    let odd = Options {
        label_selector: "odd=1".into(),
        limit: 1,
        ..Options::default()
    };
    let page = world.list(MAPS, odd).await.unwrap();
    assert_eq!(page["items"][0]["metadata"]["name"], "m1");
    assert!(
        page["metadata"].get("remainingItemCount").is_none() && !text(&page, "/metadata/continue").is_empty()
    );
    let one = Options {
        field_selector: "metadata.name=m3".into(),
        ..Options::default()
    };
    assert_eq!(
        world.list(MAPS, one).await.unwrap()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn watches_show_what_their_selectors_choose() {
    let world = world().await;
    let mut map = config_map("a", json!({}));
    map["metadata"]["labels"] = json!({"app": "web"});
    world.create(MAPS, "default", map.clone()).await.unwrap();
    let mut watch = request(Verb::Watch, MAPS, "default", "");
    watch.options.label_selector = "app=web".into();
    watch.options.allow_watch_bookmarks = true;
    watch.options.send_initial_events = Some(true);
    watch.options.resource_version_match = "NotOlderThan".into();
    let mut events = world.core.watch(watch).await.unwrap();
    let mut next = async || {
        let event = events.next().await.unwrap().unwrap();
        let object: Value = serde_json::from_slice(&event.object).unwrap();
        (event.kind, object)
    };
    assert_eq!(next().await.0, EventKind::Added);
    let (kind, bookmark) = next().await;
    assert_eq!(kind, EventKind::Bookmark);
    assert_eq!(
        bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    map["data"] = json!({"x": "y"});
    world.update(MAPS, "", map.clone()).await.unwrap();
    assert_eq!(next().await.0, EventKind::Modified);
    map["metadata"]["labels"]["app"] = "db".into();
    let left = world.update(MAPS, "", map.clone()).await.unwrap();
    let (kind, object) = next().await;
    assert_eq!(
        (kind, object["metadata"]["labels"]["app"].as_str()),
        (EventKind::Deleted, Some("web"))
    );
    assert_eq!(
        object["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    map["metadata"]["labels"]["app"] = "web".into();
    world.update(MAPS, "", map).await.unwrap();
    assert_eq!(next().await.0, EventKind::Added);
    world.delete(MAPS, "a", Options::default()).await.unwrap();
    assert_eq!(next().await.0, EventKind::Deleted);
}

#[tokio::test]
async fn patches_change_what_they_name() {
    let world = world().await;
    world
        .create(MAPS, "default", config_map("a", json!({"k": "v", "l": "m"})))
        .await
        .unwrap();
    let merged = world
        .patch(
            PatchType::Merge,
            MAPS,
            "a",
            json!({"data": {"k": null, "n": "o"}}),
        )
        .await
        .unwrap();
    assert_eq!(merged["data"], json!({"l": "m", "n": "o"}));
    let patch = json!([{"op": "replace", "path": "/data/l", "value": "q"}]);
    let patched = world.patch(PatchType::Json, MAPS, "a", patch).await.unwrap();
    assert_eq!(patched["data"]["l"], "q");
    let strategic = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = world
        .patch(PatchType::Strategic, MAPS, "a", strategic)
        .await
        .unwrap();
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"l": "r"}});
    assert_eq!(
        world
            .patch(PatchType::Merge, MAPS, "a", stale)
            .await
            .unwrap_err()
            .code,
        409
    );
    let missing = world
        .patch(PatchType::Merge, MAPS, "none", json!({}))
        .await
        .unwrap_err();
    assert_eq!(missing.code, 404);
}

#[tokio::test]
async fn applying_makes_and_changes() {
    let world = world().await;
    let map = config_map("a", json!({"k": "v", "l": "m"}));
    let mut request = request(Verb::Patch(PatchType::Apply), MAPS, "default", "a");
    request.body = map.to_string().into();
    let made = world.reply(request.clone()).await.unwrap();
    assert_eq!(made.code, 201);
    assert_eq!(value(&made)["metadata"]["managedFields"][0]["operation"], "Apply");
    let same = world.reply(request.clone()).await.unwrap();
    assert_eq!((same.code, value(&same)), (200, value(&made)));
    request.options.field_manager = "other".into();
    request.body = config_map("a", json!({"k": "w"})).to_string().into();
    let conflict = world.reply(request.clone()).await.unwrap_err();
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    request.options.force = true;
    assert_eq!(
        world.call(request.clone()).await.unwrap()["data"],
        json!({"k": "w", "l": "m"})
    );
    request.options.field_manager.clear();
    assert_eq!(world.reply(request).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn pods_end_gracefully() {
    let world = world().await.with_account().await;
    world.create(PODS, "default", pod("a")).await.unwrap();
    let gone = world.delete(PODS, "a", Options::default()).await.unwrap();
    assert_eq!(gone["kind"], "Pod", "a pod without a node goes at once");
    assert_eq!(world.get(PODS, "a").await.unwrap_err().code, 404);

    world.create(PODS, "default", pod("b")).await.unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"},
                         "target": {"kind": "Node", "name": "n1"}});
    let mut bind = request(Verb::Create, PODS, "default", "b");
    bind.subresource = "binding".into();
    bind.body = binding.to_string().into();
    assert_eq!(world.reply(bind.clone()).await.unwrap().code, 201);
    assert_eq!(world.reply(bind).await.unwrap_err().code, 409);
    let told = world.delete(PODS, "b", Options::default()).await.unwrap();
    assert_eq!(told["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(text(&told, "/metadata/deletionTimestamp"), "2026-01-02T03:04:35Z");
    let pending = world.delete(PODS, "b", Options::default()).await.unwrap();
    assert_eq!(
        pending["metadata"]["resourceVersion"],
        told["metadata"]["resourceVersion"]
    );
    let now = Options {
        grace_period_seconds: Some(0),
        ..Options::default()
    };
    world.delete(PODS, "b", now).await.unwrap();
    assert_eq!(world.get(PODS, "b").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_deletion_up() {
    let world = world().await;
    let made = world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let wrong = Options {
        precondition_uid: Some("other".into()),
        ..Options::default()
    };
    assert_eq!(world.delete(MAPS, "a", wrong).await.unwrap_err().code, 409);
    let foreground = Options {
        propagation_policy: "Foreground".into(),
        ..Options::default()
    };
    let mut kept = world.delete(MAPS, "a", foreground).await.unwrap();
    assert_eq!(kept["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(kept["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    kept["metadata"]["finalizers"] = json!([]);
    world.update(MAPS, "", kept).await.unwrap();
    assert_eq!(world.get(MAPS, "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let world = world().await;
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
               "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}})
    };
    let a = world.create(SERVICES, "default", service("a")).await.unwrap();
    let b = world.create(SERVICES, "default", service("b")).await.unwrap();
    let ip = text(&a, "/spec/clusterIP");
    assert!(
        ip.starts_with("10.43.") && ip != text(&b, "/spec/clusterIP"),
        "{ip}"
    );
    assert_eq!(a["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(a["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = a["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port) && Some(port) != b["spec"]["ports"][0]["nodePort"].as_u64());
    let mut taken = service("c");
    taken["spec"]["clusterIP"] = ip.as_str().into();
    let refused = world
        .create(SERVICES, "default", taken.clone())
        .await
        .unwrap_err();
    assert!(
        refused.message.contains("provided IP is already allocated"),
        "{refused}"
    );
    let mut plain = service("a");
    plain["spec"]["type"] = "ClusterIP".into();
    let plain = world.update(SERVICES, "", plain).await.unwrap();
    assert_eq!(plain["spec"]["clusterIP"], ip.as_str());
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    world.delete(SERVICES, "a", Options::default()).await.unwrap();
    world.create(SERVICES, "default", taken).await.unwrap();
    world.core.bootstrap().await.unwrap();
    let api = world.get(SERVICES, "kubernetes").await.unwrap();
    assert_eq!(api["spec"]["clusterIP"], "10.43.0.1");
    let slice = world
        .get(("discovery.k8s.io", "endpointslices"), "kubernetes")
        .await
        .unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.5"]));
}

#[tokio::test]
async fn deployments_scale() {
    let world = world().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let kind = ("apps", "deployments");
    let made = world.create(kind, "default", deployment).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let mut read = request(Verb::Get, kind, "default", "web");
    read.subresource = "scale".into();
    let mut scale = world.call(read).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(
        world.update(kind, "scale", scale).await.unwrap()["spec"]["replicas"],
        5
    );
    let now = world.get(kind, "web").await.unwrap();
    assert_eq!(
        (
            now["spec"]["replicas"].as_i64(),
            now["metadata"]["generation"].as_i64()
        ),
        (Some(5), Some(2))
    );
    let mut status = now.clone();
    status["status"] = json!({"replicas": 5, "observedGeneration": 2});
    status["spec"]["replicas"] = 9.into();
    let after = world.update(kind, "status", status).await.unwrap();
    assert_eq!(
        (
            after["spec"]["replicas"].as_i64(),
            after["status"]["replicas"].as_i64()
        ),
        (Some(5), Some(5))
    );
}

#[tokio::test]
async fn namespaces_end_when_they_are_empty() {
    let world = world().await;
    let kind = ("", "namespaces");
    let made = world
        .create(kind, "", json!({"metadata": {"name": "shop"}}))
        .await
        .unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let ending = world.delete(kind, "shop", Options::default()).await.unwrap();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let late = world
        .create(MAPS, "shop", json!({"metadata": {"name": "a"}}))
        .await
        .unwrap_err();
    assert!(
        late.message
            .ends_with("in namespace shop because it is being terminated"),
        "{late}"
    );
    let mut done = ending;
    done["spec"] = json!({});
    world.update(kind, "finalize", done).await.unwrap();
    assert_eq!(world.get(kind, "shop").await.unwrap_err().code, 404);
    let immortal = world
        .delete(kind, "default", Options::default())
        .await
        .unwrap_err();
    assert!(
        immortal.message.ends_with("this namespace may not be deleted"),
        "{immortal}"
    );
}

#[tokio::test]
async fn tokens_and_reviews_are_answered() {
    let world = world().await.with_account().await;
    let mut ask = request(Verb::Create, ACCOUNTS, "default", "default");
    ask.subresource = "token".into();
    ask.body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}})
            .to_string()
            .into();
    let token = world.call(ask).await.unwrap();
    assert_eq!(token["status"]["token"], "default/default/None");
    let review = json!({"spec": {"token": "good"}});
    let review = world
        .create(("authentication.k8s.io", "tokenreviews"), "", review)
        .await
        .unwrap();
    assert_eq!(review["status"]["user"]["username"], "eve");
    let ask = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let kind = ("authorization.k8s.io", "selfsubjectaccessreviews");
    assert_eq!(
        world.create(kind, "", ask).await.unwrap()["status"]["allowed"],
        true
    );
    let me = world
        .create(("authentication.k8s.io", "selfsubjectreviews"), "", json!({}))
        .await
        .unwrap();
    assert_eq!(me["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let world = world().await;
    let mut ask = request(Verb::Create, MAPS, "default", "");
    ask.options.dry_run = true;
    ask.body = config_map("a", json!({})).to_string().into();
    assert_eq!(world.reply(ask).await.unwrap().code, 201);
    assert_eq!(world.get(MAPS, "a").await.unwrap_err().code, 404);
    world
        .create(MAPS, "default", config_map("b", json!({})))
        .await
        .unwrap();
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    world.delete(MAPS, "b", dry).await.unwrap();
    assert!(world.get(MAPS, "b").await.is_ok());
    let mut all = request(Verb::DeleteCollection, MAPS, "default", "");
    all.options.label_selector = "x=y".into();
    world.call(all.clone()).await.unwrap();
    assert!(world.get(MAPS, "b").await.is_ok());
    all.options.label_selector.clear();
    assert_eq!(
        world.call(all).await.unwrap()["items"].as_array().unwrap().len(),
        1
    );
    assert_eq!(world.get(MAPS, "b").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_pod_gets_what_admission_adds() {
    let world = world().await.with_account().await;
    let made = world.create(PODS, "default", pod("a")).await.unwrap();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert!(text(&made, "/spec/volumes/0/name").starts_with("kube-api-access-"));
    assert_eq!(made["status"]["phase"], "Pending");
}

#[tokio::test]
async fn racing_writers_all_get_through() {
    let world = Arc::new(world().await);
    world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {format!("k{n}"): "v"}});
                world.patch(PatchType::Merge, MAPS, "a", patch).await.map(drop)
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let data = world.get(MAPS, "a").await.unwrap()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn caches_recorders_and_typed_clients_stand_on_it() {
    use client::{Cache, Client, EventType, Recorder, Selectors};
    use k8s_openapi::api::core::v1::{ConfigMap, Event};

    let world = world().await;
    let tasks = base::Tasks::new();
    let client = Client::new(
        Arc::new(world.core.clone()),
        User::new("system:kube-scheduler", &[]),
    );
    world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let cache: Cache<ConfigMap> = Cache::start(&client, Selectors::namespace("default"), &tasks);
    cache.synced().await;
    assert!(
        cache
            .get("default", "a")
            .is_some_and(|map| map.metadata.managed_fields.is_none())
    );
    let mut map: ConfigMap = client.get("default", "a").await.unwrap();
    map.data = Some([("k".to_owned(), "v".to_owned())].into());
    let written = client.update(&map).await.unwrap();
    let revision = written.metadata.resource_version.unwrap().parse().unwrap();
    cache.wait_revision(revision).await;
    assert_eq!(cache.get("default", "a").unwrap().data, map.data);
    client
        .delete::<ConfigMap>("default", "a", &Default::default())
        .await
        .unwrap();
    while cache.get("default", "a").is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }

    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let recorder = Recorder::new(client.clone(), "kubelet", "n1", clock, &tasks);
    for _ in 0..3 {
        recorder.event(
            &client::reference(&map),
            EventType::Warning,
            "Failed",
            "it failed",
        );
    }
    let counted = async {
        loop {
            let events = client
                .list::<Event>(&Selectors::namespace("default"))
                .await
                .unwrap()
                .items;
            if events.first().and_then(|e| e.count) == Some(3) {
                return events;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let events = tokio::time::timeout(std::time::Duration::from_secs(5), counted)
        .await
        .unwrap();
    assert_eq!((events.len(), events[0].reason.as_deref()), (1, Some("Failed")));
    tasks.shutdown().await;
}

#[tokio::test]
async fn events_are_one_thing_in_two_forms() {
    let world = world().await;
    let old = json!({"metadata": {"name": "e", "namespace": "default"}, "reason": "Started", "message": "it runs",
                     "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "type": "Normal", "count": 2});
    world.create(("", "events"), "default", old).await.unwrap();
    let kind = ("events.k8s.io", "events");
    let new = world.get(kind, "e").await.unwrap();
    assert_eq!(
        (new["apiVersion"].as_str(), new["note"].as_str()),
        (Some("events.k8s.io/v1"), Some("it runs"))
    );
    assert_eq!(new["regarding"]["name"], "a");
    let list = world
        .list(
            kind,
            Options {
                field_selector: "regarding.name=a".into(),
                ..Options::default()
            },
        )
        .await;
    assert_eq!(list.unwrap()["items"][0]["note"], "it runs");
    let patch = json!({"note": "it still runs"});
    world.patch(PatchType::Merge, kind, "e", patch).await.unwrap();
    assert_eq!(
        world.get(("", "events"), "e").await.unwrap()["message"],
        "it still runs"
    );
}

#[tokio::test]
async fn certificate_requests_remember_who_asked() {
    let world = world().await;
    let kind = ("certificates.k8s.io", "certificatesigningrequests");
    let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n";
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let body = json!({"metadata": {"name": "r"}, "spec": {"request": request, "username": "somebody",
                      "signerName": "example.com/a", "usages": ["client auth"]}});
    let mut made = world.create(kind, "", body).await.unwrap();
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(made["spec"]["groups"], json!(["system:masters"]));
    made["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]});
    let plain = world.update(kind, "", made.clone()).await.unwrap();
    assert_eq!(plain["status"].get("conditions"), None);
    made["metadata"] = plain["metadata"].clone();
    let approved = world.update(kind, "approval", made).await.unwrap();
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let rbac = crate::rbac::Rbac::with_defaults();
    let binding =
        r#"{"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"User","name":"eve"}]}"#;
    rbac.apply("rolebindings", "default", "b", Some(binding.as_bytes()));
    let world = world_of(Arc::new(rbac)).await;
    let role = |resource: &str| {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let mut ask = request(
            Verb::Create,
            ("rbac.authorization.k8s.io", "roles"),
            "default",
            "",
        );
        ask.user = User::new("eve", &["system:authenticated"]);
        ask.body = json!({"metadata": {"name": resource}, "rules": [rule]})
            .to_string()
            .into();
        ask
    };
    world.call(role("pods")).await.unwrap();
    let refused = world.call(role("nodes")).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(
        refused
            .message
            .contains("is attempting to grant RBAC permissions not currently held"),
        "{refused}"
    );
    let mut other = role("pods");
    other.namespace = "kube-system".into();
    assert!(
        world
            .call(other)
            .await
            .unwrap_err()
            .message
            .contains("cannot create resource \"roles\"")
    );
}

#[tokio::test]
async fn old_versions_are_listed_until_they_are_compacted() {
    let world = world().await;
    for name in ["a", "b"] {
        world
            .create(MAPS, "default", config_map(name, json!({})))
            .await
            .unwrap();
    }
    let first = world
        .list(
            MAPS,
            Options {
                limit: 1,
                ..Options::default()
            },
        )
        .await
        .unwrap();
    let version = text(&first, "/metadata/resourceVersion");
    world
        .create(MAPS, "default", config_map("c", json!({})))
        .await
        .unwrap();
    let exact = Options {
        resource_version: Some(version.clone()),
        resource_version_match: "Exact".into(),
        ..Options::default()
    };
    assert_eq!(
        world.list(MAPS, exact.clone()).await.unwrap()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let future = Options {
        resource_version: Some("999999".into()),
        ..Options::default()
    };
    let late = world.list(MAPS, future).await.unwrap_err();
    assert_eq!((late.code, late.reason.as_str()), (504, "Timeout"));
    world
        .create(MAPS, "default", config_map("d", json!({})))
        .await
        .unwrap();
    let store = world.core.store();
    store.compact(store.revision()).await.unwrap();
    assert_eq!(world.list(MAPS, exact).await.unwrap_err().code, 410);
    let next = Options {
        continue_token: text(&first, "/metadata/continue"),
        ..Options::default()
    };
    let expired = world.list(MAPS, next).await.unwrap_err();
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    let again = expired.to_value();
    let rest = Options {
        continue_token: text(&again, "/metadata/continue"),
        ..Options::default()
    };
    let rest = world.list(MAPS, rest).await.unwrap();
    let names: Vec<String> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| text(i, "/metadata/name"))
        .collect();
    assert_eq!(
        names,
        ["b", "c", "d"],
        "from where the first page ended, as it is now"
    );
}

#[tokio::test]
async fn evictions_and_debug_containers() {
    let world = world().await.with_account().await;
    let made = world.create(PODS, "default", pod("a")).await.unwrap();
    let mut debug = made.clone();
    debug["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    debug["spec"]["nodeName"] = "elsewhere".into();
    let debugged = world.update(PODS, "ephemeralcontainers", debug).await.unwrap();
    assert_eq!(debugged["spec"]["ephemeralContainers"][0]["name"], "d");
    assert_eq!(debugged["spec"].get("nodeName"), None);
    let mut evict = request(Verb::Create, PODS, "default", "a");
    evict.subresource = "eviction".into();
    evict.body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}})
        .to_string()
        .into();
    let reply = world.reply(evict.clone()).await.unwrap();
    assert_eq!(
        (reply.code, value(&reply)["status"].as_str()),
        (201, Some("Success"))
    );
    assert_eq!(world.reply(evict).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_restart_finds_everything_and_repairs_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let store = Store::open(StoreConfig::new(folder.path())).await.unwrap();
        let config = CoreConfig::new([10, 0, 0, 5].into(), 6443);
        Core::new(store, config, Arc::new(AllowAll), Arc::new(NoTokens)).unwrap()
    };
    let core = open().await;
    core.bootstrap().await.unwrap();
    let key = "/networking.k8s.io/ipaddresses/10.43.0.1";
    let lose = store::Op::Delete {
        key: key.into(),
        expect: store::Expect::Present,
    };
    core.store().commit(vec![lose]).await.unwrap();
    core.store().close().await;
    drop(core);
    let core = open().await;
    let before = core.store().revision();
    core.bootstrap().await.unwrap();
    assert_eq!(
        core.store().revision(),
        before + 1,
        "nothing but the lost record is written"
    );
    assert!(core.store().peek(key).is_some());
    core.store().close().await;
}
