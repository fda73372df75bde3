//! Every verb on every kind: whatever is in the table of kinds goes through the same life.
//!
//! A kind that is added needs a sample in `samples.yaml` beside the kinds, and is tried from then on.

mod applied;
mod changes;
mod checked;
mod lists;
mod lives;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use api::kind::Kind;
use api::kinds;
use api::patch;
use api::request::{PatchType, ResourceRef, User, Verb};
use api::status::Status;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Request, World, world};

/// The kinds whose strategies say `ReturnDeletedObject`; the others' deletion is answered with a `Status`.
const RETURNED_BY_DELETE: [&str; 16] = [
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];
/// How long the server may take for what it does after a write.
const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Deserialize)]
struct Sample {
    object: Value,
    other: Option<Value>,
    status: Option<Value>,
    invalid: Value,
    why: String,
}

/// A kind, a sample of it, and the world in which it lives.
struct Trial<'w> {
    world: &'w World,
    kind: &'static Kind,
    sample: Sample,
}

fn samples() -> BTreeMap<String, Sample> {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = || rcgen::CertificateParams::default();
    let csr = certificate().serialize_request(&key).unwrap();
    let encoded = |pem: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let text = include_str!("../../../api/kinds/samples.yaml").replace("@CSR@", &encoded(csr.pem().unwrap()));
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    let mut samples: BTreeMap<String, Sample> = serde_json::from_value(read).unwrap();
    let signed = certificate().self_signed(&key).unwrap();
    let requests = samples.get_mut("certificates.k8s.io/v1/certificatesigningrequests");
    requests.unwrap().status = Some(json!({ "certificate": encoded(signed.pem()) }));
    samples
}

/// The parts of a life, each tried on every kind.
const PARTS: [Part; 10] = [
    ("lives", |trial| trial.lives().boxed()),
    ("is tried in vain", |trial| trial.is_tried_in_vain().boxed()),
    ("is patched", |trial| trial.is_patched().boxed()),
    ("is applied", |trial| trial.is_applied().boxed()),
    ("is applied in part", |trial| trial.is_applied_in_part().boxed()),
    ("is scaled", |trial| trial.is_scaled().boxed()),
    ("keeps its status apart", |trial| {
        trial.keeps_status_apart().boxed()
    }),
    ("is listed and watched", |trial| {
        trial.is_listed_and_watched().boxed()
    }),
    ("is checked", |trial| trial.is_checked().boxed()),
    ("speaks protobuf", |trial| trial.speaks_protobuf().boxed()),
];

type Part = (&'static str, for<'t> fn(&'t Trial<'t>) -> BoxFuture<'t, ()>);

#[tokio::test]
async fn every_kind_lives_the_same_life() {
    let mut world = world().await.with_account().await;
    let samples = samples();
    let (mut tried, mut failed) = (0, Vec::new());
    for kind in kinds::all()
        .iter()
        .filter(|kind| kind.stored() && kind.has_verb("create"))
    {
        let place = format!("{}/{}/{}", kind.group, kind.version, kind.plural);
        let sample = samples.get(&place);
        let sample = sample.unwrap_or_else(|| panic!("samples.yaml needs a sample of {place}"));
        tried += 1;
        for (part, run) in PARTS {
            let trial = Trial {
                world: &world,
                kind,
                sample: sample.clone(),
            };
            // What went wrong has been printed; the other parts are tried in a world without its traces.
            if AssertUnwindSafe(run(&trial)).catch_unwind().await.is_err() {
                failed.push(format!("{place} {part}"));
                world = super::world().await.with_account().await;
            }
        }
    }
    assert_eq!(failed, [""; 0]);
    assert_eq!(
        tried,
        samples.len(),
        "samples.yaml has samples of kinds that are not there"
    );
}

impl Trial<'_> {
    fn object(&self, name: &str) -> Value {
        let kind = self.kind;
        let mut object = self.sample.object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        if object["metadata"]["name"].is_null() {
            object["metadata"] = json!({ "name": name });
        }
        if kind.namespaced {
            object["metadata"]["namespace"] = "default".into();
        }
        object
    }

    /// A second object beside the first.
    fn other(&self) -> Value {
        let object = self.object("every-other");
        match &self.sample.other {
            Some(patch) => patch::merge_patch(object, patch.clone()),
            None => object,
        }
    }

    fn request(&self, verb: Verb, object: &Value) -> Request {
        let kind = self.kind;
        let resource = ResourceRef::new(kind.group, kind.version, kind.plural);
        let namespace = if kind.namespaced { "default" } else { "" };
        let named = !matches!(
            verb,
            Verb::Create | Verb::List | Verb::Watch | Verb::DeleteCollection
        );
        let name = if named {
            object["metadata"]["name"].as_str().unwrap_or_default()
        } else {
            ""
        };
        let admin = User::new("admin", &["system:masters"]);
        let mut request = Request::new(admin, verb, resource, namespace, name);
        request.options.field_manager = "every".into();
        request.options.field_validation = "Strict".into();
        // Some kinds' dependents stay otherwise, and with them the object until somebody has seen to that.
        request.options.propagation_policy = "Background".into();
        request
    }

    async fn send(&self, verb: Verb, object: &Value) -> Result<Value, Status> {
        let mut request = self.request(verb, object);
        if !matches!(verb, Verb::Get | Verb::Delete) {
            request.body = object.to_string().into();
        }
        request.options.grace_period_seconds = (verb == Verb::Delete).then_some(0);
        self.world.call(request).await
    }

    async fn patch(&self, how: PatchType, object: &Value, patch: Value) -> Result<Value, Status> {
        let mut request = self.request(Verb::Patch(how), object);
        request.body = patch.to_string().into();
        self.world.call(request).await
    }

    async fn must(&self, verb: Verb, object: &Value) -> Value {
        let made = self.send(verb, object).await;
        made.unwrap_or_else(|status| panic!("{:?} {verb:?}: {}", self.kind, status.message))
    }

    /// A new object as it is when the server has done its part.
    async fn made(&self, object: &Value) -> Value {
        let made = self.must(Verb::Create, object).await;
        self.settled(made).await
    }

    /// The object once the server has done its part.
    async fn settled(&self, made: Value) -> Value {
        if self.kind.deletion_finalizer.is_empty() {
            return made;
        }
        let settled = async {
            loop {
                let now = self.must(Verb::Get, &made).await;
                if now["status"]["conditions"]
                    .as_array()
                    .is_some_and(|c| !c.is_empty())
                {
                    return now;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(DEADLINE, settled)
            .await
            .expect("conditions in good time")
    }

    /// Takes away what protects an object in use, as a controller does once nobody uses it.
    async fn release(&self, object: &Value) {
        let Ok(mut live) = self.send(Verb::Get, object).await else {
            return;
        };
        if live["metadata"]["finalizers"].to_string().contains("-protection") {
            live["metadata"]["finalizers"] = json!([]);
            self.must(Verb::Update, &live).await;
        }
    }

    /// Waits until the object is gone, at once where nothing has to be cleaned up first.
    async fn gone(&self, object: &Value) {
        self.release(object).await;
        let gone = async {
            loop {
                match self.send(Verb::Get, object).await {
                    Err(status) => return status.code,
                    Ok(_) if self.kind.deletion_finalizer.is_empty() => return 200,
                    Ok(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let code = tokio::time::timeout(DEADLINE, gone)
            .await
            .expect("gone in good time");
        assert_eq!(code, 404, "{:?}", self.kind);
    }

    /// Deletes it, and a namespace's last finalizer with it.
    async fn remove(&self, object: &Value) {
        let told = self.must(Verb::Delete, object).await;
        let lingers = !told["metadata"]["deletionTimestamp"].is_null();
        let is_object = lingers || RETURNED_BY_DELETE.contains(&self.kind.plural);
        let kind = if is_object { self.kind.kind } else { "Status" };
        assert_eq!(told["kind"], kind, "{:?}: {told}", self.kind);
        if self.kind.kind == "Namespace" {
            let mut left = self.must(Verb::Get, object).await;
            left["spec"]["finalizers"] = json!([]);
            let mut request = self.request(Verb::Update, object);
            request.subresource = "finalize".into();
            request.body = left.to_string().into();
            self.world.call(request).await.unwrap();
        }
        self.gone(object).await;
    }
}
