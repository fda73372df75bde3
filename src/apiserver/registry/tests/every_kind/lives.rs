//! Coming into being, changing, and going; and doing so in vain.

use api::request::{PatchType, Verb};
use serde_json::{Value, json};

use super::Trial;

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

impl Trial<'_> {
    pub(super) async fn lives(&self) {
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

    /// What is only tried leaves no trace, whatever is tried.
    pub(super) async fn is_tried_in_vain(&self) {
        let mut object = self.object("every");
        object["metadata"]["labels"] = json!({"every": "dry"});
        let made = self.made(&object).await;
        let mut new = made.clone();
        new["metadata"]["labels"]["more"] = "1".into();
        let small = json!({
            "apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": {"labels": {"more": "1"}},
        });
        let mut tries = vec![
            (Verb::Update, new),
            (
                Verb::Patch(PatchType::Merge),
                json!({"metadata": {"labels": {"more": "1"}}}),
            ),
            (Verb::Patch(PatchType::Apply), small),
            (Verb::Delete, Value::Null),
        ];
        if self.kind.has_verb("deletecollection") {
            tries.push((Verb::DeleteCollection, Value::Null));
        }
        for (verb, body) in tries {
            let mut request = self.request(verb, &object);
            request.options.dry_run = true;
            if verb == Verb::DeleteCollection {
                request.options.label_selector = "every=dry".into();
            }
            if !body.is_null() {
                request.body = body.to_string().into();
            }
            let told = self.world.call(request).await;
            let told = told.unwrap_or_else(|status| panic!("{:?} {verb:?}: {}", self.kind, status.message));
            if !matches!(verb, Verb::Delete | Verb::DeleteCollection) {
                assert_eq!(
                    told["metadata"]["labels"]["more"], "1",
                    "{:?} {verb:?}",
                    self.kind
                );
            }
            assert_eq!(
                self.must(Verb::Get, &object).await,
                made,
                "{:?} {verb:?}",
                self.kind
            );
        }
        self.remove(&object).await;
    }
}
