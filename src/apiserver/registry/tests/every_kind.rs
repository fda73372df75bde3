//! Every verb on every kind: whatever is in the table of kinds goes through the same life.
//!
//! A kind that is added needs a sample in `samples.yaml` beside the kinds, and is tried from then on.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use api::kind::Kind;
use api::kinds;
use api::patch;
use api::protobuf;
use api::request::{EventKind, Options, PatchType, ResourceRef, User, Verb};
use api::schema::Schemas;
use api::status::Status;
use client::Api;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Request, World, world};

/// How long the server may take for what it does after a write.
const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
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
/// The kinds whose strategies say `AllowCreateOnUpdate`.
const CREATED_BY_PUT: [&str; 10] = [
    "clusterrolebindings",
    "clusterroles",
    "endpoints",
    "events",
    "leases",
    "limitranges",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "services",
];

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
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let pem = csr.pem().unwrap();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let text = include_str!("../../../api/kinds/samples.yaml").replace("@CSR@", &encoded);
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    serde_json::from_value(read).unwrap()
}

/// The parts of a life, each tried on every kind.
const PARTS: [Part; 7] = [
    ("lives", |trial| trial.lives().boxed()),
    ("is patched", |trial| trial.is_patched().boxed()),
    ("is applied", |trial| trial.is_applied().boxed()),
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

    async fn lives(&self) {
        let object = self.object("every");
        let mut dry = self.request(Verb::Create, &object);
        dry.options.dry_run = true;
        dry.body = object.to_string().into();
        let dry = self.world.call(dry).await;
        dry.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        assert_eq!(
            self.send(Verb::Get, &object).await.unwrap_err().code,
            404,
            "{:?}",
            self.kind
        );

        let made = self.made(&object).await;
        assert_eq!(made["kind"], self.kind.kind);
        assert_eq!(made["apiVersion"], self.kind.api_version());
        assert_eq!(self.must(Verb::Get, &object).await, made, "{:?}", self.kind);
        let again = self.send(Verb::Create, &object).await.unwrap_err();
        assert_eq!(again.reason, "AlreadyExists", "{:?}", self.kind);

        assert_eq!(
            self.must(Verb::Update, &made).await,
            made,
            "{:?}: nothing changed",
            self.kind
        );
        let mut new = made.clone();
        new["metadata"]["labels"] = json!({"every": "yes"});
        let changed = self.must(Verb::Update, &new).await;
        assert_eq!(changed["metadata"]["labels"]["every"], "yes");
        assert_ne!(
            changed["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"]
        );
        assert_eq!(
            self.send(Verb::Update, &new).await.unwrap_err().reason,
            "Conflict",
            "{:?}",
            self.kind
        );
        self.unconditional(&changed).await;
        self.remove(&object).await;
        self.put_to_nothing(&object).await;
    }

    /// A PUT without a version is taken where Kubernetes takes it.
    async fn unconditional(&self, object: &Value) {
        let mut blind = object.clone();
        blind["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        let taken = self.send(Verb::Update, &blind).await;
        assert_eq!(taken.is_ok(), self.kind.unconditional_update, "{:?}", self.kind);
        if let Err(status) = taken {
            assert!(
                status
                    .message
                    .contains("metadata.resourceVersion: Invalid value: 0"),
                "{}",
                status.message
            );
        }
    }

    /// A PUT of what is not there creates where Kubernetes lets it.
    async fn put_to_nothing(&self, object: &Value) {
        let put = self.send(Verb::Update, object).await;
        let creates = CREATED_BY_PUT.contains(&self.kind.plural);
        assert_eq!(put.is_ok(), creates, "{:?}: {put:?}", self.kind);
        match put {
            Ok(_) => self.remove(object).await,
            Err(status) => assert_eq!(status.code, 404, "{:?}: {}", self.kind, status.message),
        }
    }

    async fn is_patched(&self) {
        let object = self.object("every");
        self.made(&object).await;
        let label = |key: &str| json!({"metadata": {"labels": {key: "1"}}});
        let body = json!([{"op": "add", "path": "/metadata/annotations", "value": {"json": "1"}}]);
        for (how, body) in [
            (PatchType::Merge, label("merge")),
            (PatchType::Strategic, label("strategic")),
            (PatchType::Json, body),
        ] {
            let patched = self.patch(how, &object, body).await;
            patched.unwrap_or_else(|status| panic!("{:?} {how:?}: {}", self.kind, status.message));
        }
        let now = self.must(Verb::Get, &object).await;
        let labels = &now["metadata"]["labels"];
        assert_eq!(
            (&labels["merge"], &labels["strategic"]),
            (&json!("1"), &json!("1")),
            "{:?}",
            self.kind
        );
        assert_eq!(now["metadata"]["annotations"]["json"], "1");
        let odd = self
            .patch(PatchType::Merge, &object, json!({"odd": 1}))
            .await
            .unwrap_err();
        assert!(
            odd.message.contains("unknown field \"odd\""),
            "{:?}: {}",
            self.kind,
            odd.message
        );
        self.remove(&object).await;
    }

    async fn apply(&self, manager: &str, object: &Value, force: bool) -> Result<Value, Status> {
        let mut request = self.request(Verb::Patch(PatchType::Apply), object);
        request.options.field_manager = manager.into();
        request.options.force = force;
        request.body = object.to_string().into();
        self.world.call(request).await
    }

    async fn is_applied(&self) {
        let mut object = self.object("every");
        object["metadata"]["labels"] = json!({"mine": "1"});
        let made = self.apply("one", &object, false).await;
        let made = made.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        let made = self.settled(made).await;
        let same = self.apply("one", &object, false).await.unwrap();
        assert_eq!(
            same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"],
            "{:?}",
            self.kind
        );
        let small = |labels: Value| {
            let mut small = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"]});
            small["metadata"]["labels"] = labels;
            small
        };
        let both = self.apply("two", &small(json!({"theirs": "1"})), false).await;
        let both = both.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        for key in ["mine", "theirs"] {
            assert_eq!(both["metadata"]["labels"][key], "1", "{:?}: {both}", self.kind);
        }
        let taken = small(json!({"theirs": "1", "mine": "2"}));
        let conflict = self.apply("two", &taken, false).await.unwrap_err();
        assert_eq!(conflict.code, 409, "{:?}", self.kind);
        assert!(
            conflict.message.contains("conflict with \"one\""),
            "{:?}: {}",
            self.kind,
            conflict.message
        );
        let forced = self.apply("two", &taken, true).await.unwrap();
        assert_eq!(forced["metadata"]["labels"]["mine"], "2");
        let dropped = self.apply("two", &small(json!({})), false).await.unwrap();
        assert!(
            dropped["metadata"]["labels"]["theirs"].is_null(),
            "{:?}: {dropped}",
            self.kind
        );
        self.remove(&object).await;
    }

    async fn keeps_status_apart(&self) {
        if self.kind.subresource("status").is_none() {
            return;
        }
        let status = self.sample.status.clone();
        let status = status.unwrap_or_else(|| panic!("samples.yaml needs a status of {:?}", self.kind));
        let object = self.object("every");
        let made = self.made(&object).await;
        let with_status = patch::merge_patch(made.clone(), json!({ "status": status }));
        let spec_write = self.must(Verb::Update, &with_status).await;
        assert_eq!(
            spec_write["status"], made["status"],
            "{:?}: a spec write leaves the status",
            self.kind
        );
        let mut request = self.request(Verb::Patch(PatchType::Merge), &object);
        request.subresource = "status".into();
        request.body = json!({ "status": status, "spec": null }).to_string().into();
        let written = self.world.call(request).await;
        let written = written.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        assert_eq!(
            written["spec"], made["spec"],
            "{:?}: a status write leaves the spec",
            self.kind
        );
        self.remove(&object).await;
    }

    async fn is_listed_and_watched(&self) {
        let (mut object, other) = (self.object("every"), self.other());
        object["metadata"]["labels"] = json!({"every": "listed"});
        let before = self.listed(Options::default()).await;
        let version = before["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        self.made(&object).await;
        self.made(&other).await;
        let name = object["metadata"]["name"].as_str().unwrap();
        let by_label = Options {
            label_selector: "every=listed".into(),
            ..Options::default()
        };
        let by_name = Options {
            field_selector: format!("metadata.name={name}"),
            ..Options::default()
        };
        for options in [by_label.clone(), by_name.clone()] {
            let found = self.listed(options).await;
            assert_eq!(found["kind"], self.kind.list_kind());
            let names: Vec<&Value> = found["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| &i["metadata"]["name"])
                .collect();
            assert_eq!(names, [name], "{:?}", self.kind);
        }
        for field in self.kind.field_names {
            let none = Options {
                field_selector: format!("{field}=nonesuch"),
                ..Options::default()
            };
            let found = self.listed(none).await;
            assert_eq!(found["items"], json!([]), "{:?} {field}", self.kind);
        }
        self.watched(&version, name, by_name).await;
        if self.kind.has_verb("deletecollection") {
            let mut request = self.request(Verb::DeleteCollection, &object);
            request.options = Options {
                grace_period_seconds: Some(0),
                propagation_policy: "Background".into(),
                ..by_label
            };
            self.world.call(request).await.unwrap();
            self.gone(&object).await;
        } else {
            self.remove(&object).await;
        }
        self.remove(&other).await;
    }

    async fn listed(&self, options: Options) -> Value {
        let mut request = self.request(Verb::List, &Value::Null);
        request.options = options;
        let found = self.world.call(request).await;
        found.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message))
    }

    /// A watch from before the creation shows it.
    async fn watched(&self, version: &str, name: &str, by_name: Options) {
        let mut request = self.request(Verb::Watch, &Value::Null);
        request.options = Options {
            resource_version: Some(version.to_owned()),
            ..by_name
        };
        let mut events = self.world.core.watch(request).await.unwrap();
        let event = events.next().await.unwrap().unwrap();
        let seen: Value = serde_json::from_slice(&event.object).unwrap();
        assert_eq!(event.kind, EventKind::Added, "{:?}", self.kind);
        assert_eq!(seen["metadata"]["name"], name);
        assert_eq!(seen["apiVersion"], self.kind.api_version());
    }

    async fn is_checked(&self) {
        let invalid = patch::merge_patch(self.object("every"), self.sample.invalid.clone());
        let refused = self.send(Verb::Create, &invalid).await;
        let refused = refused
            .err()
            .unwrap_or_else(|| panic!("{:?}: {invalid} was taken", self.kind));
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{:?}: {}",
            self.kind,
            refused.message
        );
        assert!(
            refused.message.contains(&self.sample.why),
            "{:?}: {}",
            self.kind,
            refused.message
        );
        let causes = refused.details.map(|details| details.causes.len());
        assert!(causes.is_some_and(|n| n > 0), "{:?}", self.kind);
        let odd = patch::merge_patch(self.object("every"), json!({"metadata": {"odd": 1}}));
        let refused = self.send(Verb::Create, &odd).await.unwrap_err();
        assert!(
            refused
                .message
                .contains("strict decoding error: unknown field \"metadata.odd\""),
            "{}",
            refused.message
        );
    }

    /// The same body in protobuf makes the same object.
    async fn speaks_protobuf(&self) {
        let object = self.object("every");
        let schema = Schemas::builtin()
            .for_kind(self.kind.group, self.kind.version, self.kind.kind)
            .unwrap();
        let mut request = self.request(Verb::Create, &object);
        request.options.dry_run = true;
        request.options.field_validation = String::new();
        let mut binary = request.clone();
        request.body = object.to_string().into();
        binary.body = protobuf::encode(&object, &schema).into();
        binary.content_type = "application/vnd.kubernetes.protobuf".into();
        let plain = self.world.call(request).await.unwrap();
        let made = self.world.call(binary).await;
        let made = made.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        // What is made up anew for every object.
        let strip = |mut value: Value| {
            api::value::each(&mut value, "spec.containers", |container| {
                api::value::remove(container, "volumeMounts");
            });
            for path in [
                &["metadata", "uid"][..],
                &["metadata", "managedFields"],
                &["spec", "volumes"],
                &["spec", "clusterIP"],
                &["spec", "clusterIPs"],
                &["metadata", "labels"],
                &["spec", "selector"],
                &["spec", "template", "metadata", "labels"],
            ] {
                api::object::remove(&mut value, path);
            }
            value
        };
        assert_eq!(strip(made), strip(plain), "{:?}", self.kind);
    }
}
