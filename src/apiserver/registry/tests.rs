//! The registry over a real store in a temporary folder.

use std::sync::Arc;

use api::request::{EventKind, Notes, Options, PatchType, Reply, Request, ResourceRef, User, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::{ManualClock, SeededRandom};
use client::Api;
use futures_util::StreamExt;
use serde_json::{Value, json};
use store::{Store, StoreConfig};
use tempfile::TempDir;

use crate::authz::{AllowAll, Authorizer};
use crate::mirror;
use crate::tokens::{IssuedToken, KeptSpec, TokenSpec, Tokens};

use super::{Core, CoreConfig};

mod account_secrets;
mod addresses;
mod custom;
mod every_kind;
mod keeping;
mod list_rules;
mod particular;
mod policies;
mod quotas;
mod standard;
mod verbs;

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

    fn issue_kept(&self, spec: &KeptSpec) -> Result<String, Status> {
        Ok(format!("{}/{}/{}", spec.account, spec.uid, spec.secret))
    }

    fn has_lost_its_key(&self, token: &str) -> bool {
        token == "old"
    }

    async fn review(&self, token: &str, _: &[String], _: &Notes) -> Result<(User, Vec<String>), String> {
        if token == "good" {
            Ok((User::new("eve", &["g"]), Vec::new()))
        } else {
            Err("bad token".into())
        }
    }
}

struct World {
    core: Core,
    clock: Arc<ManualClock>,
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
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    config.clock = clock.clone();
    config.random = Arc::new(SeededRandom::new(7));
    let core = Core::new(store, config, authorizer, Arc::new(NoTokens)).unwrap();
    core.bootstrap().await.unwrap();
    tokio::spawn(core.clone().tend_definitions(core.load_definitions()));
    let revision = mirror::load(&**core.dynamic(), core.store());
    tokio::spawn(mirror::follow(
        core.dynamic().clone(),
        core.store().clone(),
        revision,
        mirror::Followers::default(),
    ));
    World {
        core,
        clock,
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
    serde_json::from_slice(&reply.body.whole()).unwrap()
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
