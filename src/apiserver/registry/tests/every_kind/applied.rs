//! Objects that several apply, whole and in part.

use api::request::{PatchType, Verb};
use api::status::Status;
use serde_json::{Value, json};

use super::Trial;
use super::changes::holds;

impl Trial<'_> {
    pub(super) async fn apply(&self, manager: &str, object: &Value, force: bool) -> Result<Value, Status> {
        let mut request = self.request(Verb::Patch(PatchType::Apply), object);
        request.options.field_manager = manager.into();
        request.options.force = force;
        request.body = object.to_string().into();
        self.world.call(request).await
    }

    pub(super) async fn is_applied(&self) {
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

    /// Whoever applies the status owns it, and it alone.
    pub(super) async fn is_applied_in_part(&self) {
        let Some(status) = self
            .sample
            .status
            .clone()
            .filter(|_| self.kind.subresource("status").is_some())
        else {
            return;
        };
        let object = self.object("every");
        self.made(&object).await;
        let mut request = self.request(Verb::Patch(PatchType::Apply), &object);
        request.options.field_manager = "observer".into();
        // What others have written of it by now is taken over.
        request.options.force = true;
        request.subresource = "status".into();
        let body = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "status": status});
        request.body = body.to_string().into();
        let applied = self.world.call(request).await;
        let applied = applied.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        assert!(
            holds(&applied["status"], &status),
            "{:?}: {}",
            self.kind,
            applied["status"]
        );
        let entry = self.entry_of(&applied, "observer");
        assert_eq!(
            (&entry["operation"], &entry["subresource"]),
            (&json!("Apply"), &json!("status")),
            "{:?}: {entry}",
            self.kind
        );
        let fields: Vec<&String> = entry["fieldsV1"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["f:status"], "{:?}: {entry}", self.kind);
        self.remove(&object).await;
    }

    /// The number of replicas is applied through the scale, and belongs to whoever did.
    pub(super) async fn is_scaled(&self) {
        if self.kind.subresource("scale").is_none() {
            return;
        }
        let object = self.object("every");
        self.made(&object).await;
        let mut request = self.request(Verb::Patch(PatchType::Apply), &object);
        request.options.field_manager = "scaler".into();
        request.options.force = true;
        request.subresource = "scale".into();
        let body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 7}});
        request.body = body.to_string().into();
        let scale = self.world.call(request).await;
        let scale = scale.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        assert_eq!(
            (&scale["kind"], &scale["spec"]["replicas"]),
            (&json!("Scale"), &json!(7))
        );
        let now = self.must(Verb::Get, &object).await;
        assert_eq!(now["spec"]["replicas"], 7, "{:?}", self.kind);
        let entry = self.entry_of(&now, "scaler");
        assert_eq!(
            (&entry["subresource"], &entry["fieldsV1"]),
            (&json!("scale"), &json!({"f:spec": {"f:replicas": {}}})),
            "{:?}: {entry}",
            self.kind
        );
        self.remove(&object).await;
    }

    fn entry_of<'v>(&self, object: &'v Value, manager: &str) -> &'v Value {
        let entries = object["metadata"]["managedFields"].as_array();
        let entry = entries
            .into_iter()
            .flatten()
            .find(|entry| entry["manager"] == manager);
        entry.unwrap_or_else(|| panic!("{:?}: {manager} owns nothing of {object}", self.kind))
    }
}
