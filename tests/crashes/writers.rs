//! The clients of the crash scenario: they write under names of their own, and
//! note in a [`Ledger`] what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base::{Random, SeededRandom};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::shared::{Shared, lock};
use crate::support::ledger::{Ledger, Shown};

/// Names that a writer uses over and over.
const NAMES: u64 = 6;

/// A kind that is written, and what of it counts.
pub trait Written:
    Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize + Send + Sync + 'static
{
    /// An object of that name with these contents.
    fn make(name: &str, contents: &str) -> Self;
    /// The other way round.
    fn contents(&self) -> String;
}

impl Written for ConfigMap {
    fn make(name: &str, contents: &str) -> Self {
        from(json!({"metadata": {"name": name, "labels": {"by": "crashes"}}, "data": {"n": contents}}))
    }

    fn contents(&self) -> String {
        self.data
            .iter()
            .flatten()
            .map(|(_, value)| value.clone())
            .collect()
    }
}

impl Written for Deployment {
    fn make(name: &str, contents: &str) -> Self {
        let replicas: i32 = contents.parse().expect("a number");
        from(json!({
            "metadata": {"name": name, "labels": {"by": "crashes"}},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "web", "image": "local/hello-http:1", "imagePullPolicy": "Never"}]}},
            },
        }))
    }

    fn contents(&self) -> String {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas);
        replicas.unwrap_or(1).to_string()
    }
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a good manifest")
}

/// What counts of an object.
pub fn shown<K: Written + kube::Resource>(object: &K) -> Shown {
    let meta = object.meta();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Shown {
        name: text(&meta.name),
        uid: text(&meta.uid),
        revision: text(&meta.resource_version).parse().unwrap_or(0),
        contents: object.contents(),
    }
}

/// Writes objects of one kind under names of its own until told to stop.
pub struct Writer<K> {
    shared: Arc<Shared>,
    ledger: fn(&Shared) -> &Mutex<Ledger>,
    api: Api<K>,
    random: SeededRandom,
    prefix: String,
    /// Contents are drawn below this.
    bound: u64,
    pause: Duration,
}

impl<K> Writer<K>
where
    K: Written + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    /// The writer of this number; contents are drawn below `bound`, with a pause after each.
    pub fn new(
        shared: &Arc<Shared>,
        ledger: fn(&Shared) -> &Mutex<Ledger>,
        number: u64,
        seed: u64,
        (bound, pause): (u64, Duration),
    ) -> Self {
        Writer {
            shared: shared.clone(),
            ledger,
            api: Api::default_namespaced(shared.client.clone()),
            random: SeededRandom::new(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            prefix: format!("w{number}"),
            bound,
            pause,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock((self.ledger)(&self.shared))
    }

    /// Writes until told to stop.
    pub async fn run(self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let name = format!("{}-{}", self.prefix, self.random.below(NAMES));
            let gate = self.shared.gate.read().await;
            if self.settled(&name).await {
                self.write(&name).await;
            }
            drop(gate);
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Finds out what became of a doubtful write; false while the server is away.
    async fn settled(&self, name: &str) -> bool {
        if !self.ledger().doubts(name) {
            return true;
        }
        let Ok(found) = self.api.get_opt(name).await else {
            return false;
        };
        let found = found.as_ref().map(shown);
        let settled = self.ledger().settle(name, found.as_ref());
        self.shared.hold(settled);
        true
    }

    async fn write(&self, name: &str) {
        let (before, highest) = {
            let ledger = self.ledger();
            (ledger.contents(name), ledger.highest())
        };
        let new = self.random.below(self.bound).to_string();
        let delete = before.is_some() && self.random.below(5) == 0;
        self.ledger().sent(name, (!delete).then(|| new.clone()));
        let params = PostParams::default();
        let object = K::make(name, &new);
        let answer = match (&before, delete) {
            (Some(_), true) => self
                .api
                .delete(name, &DeleteParams::background())
                .await
                .map(|_| None),
            (Some(before), false) if *before == new => return self.ledger().refused(name),
            (Some(_), false) => self.api.replace(name, &params, &object).await.map(Some),
            (None, _) => self.api.create(&params, &object).await.map(Some),
        };
        match answer {
            Ok(object) => {
                let object = object.as_ref().map(shown);
                let done = self.ledger().done(object.as_ref(), name, highest);
                self.shared.hold(done);
            }
            // An answer that says no is an answer; the server being away is none.
            Err(kube::Error::Api(status)) if status.code < 500 => {
                self.ledger().refused(name);
                let text = format!("{name}: {before:?} to {new}, deleted: {delete}: {status:?}");
                self.shared.hold(Err(text));
            }
            Err(_) => {}
        }
    }
}

/// Adds one, with the resourceVersion as the guard, until told to stop; how often it was acknowledged.
pub async fn count(shared: Arc<Shared>) -> (u64, u64) {
    let api: Api<ConfigMap> = Api::default_namespaced(shared.client.clone());
    let (mut sure, mut doubtful) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(mut map) = api.get("counter").await else {
            continue;
        };
        let value: u64 = map.contents().parse().expect("a number");
        if value < sure || value > sure + doubtful {
            shared.hold(Err(format!(
                "the counter is {value}, not {sure} (or {doubtful} more)"
            )));
        }
        (sure, doubtful) = (value, 0);
        map.data = Some(BTreeMap::from([("n".to_owned(), (value + 1).to_string())]));
        match api.replace("counter", &PostParams::default(), &map).await {
            Ok(_) => sure += 1,
            Err(kube::Error::Api(status)) if status.code < 500 => {
                shared.hold(Err(format!("the counter's only writer is refused: {status:?}")));
            }
            Err(_) => doubtful = 1,
        }
    }
    (sure, doubtful)
}
