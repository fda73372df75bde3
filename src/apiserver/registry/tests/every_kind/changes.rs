//! Patches, and what belongs to whom of an object.

use api::patch;
use api::request::{PatchType, Verb};
use serde_json::{Value, json};

use super::Trial;

impl Trial<'_> {
    pub(super) async fn is_patched(&self) {
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
        assert_eq!(odd.code, 422, "{:?}: {}", self.kind, odd.message);
        assert!(
            odd.message.contains("unknown field \"odd\""),
            "{:?}: {}",
            self.kind,
            odd.message
        );
        for (how, wrong, code) in [
            (PatchType::Merge, json!({"metadata": {"labels": "none"}}), 422),
            (
                PatchType::Json,
                json!([{"op": "test", "path": "/kind", "value": "Odd"}]),
                422,
            ),
            (
                PatchType::Json,
                json!([{"op": "remove", "path": "/metadata/nothing"}]),
                422,
            ),
            (PatchType::Json, json!({"metadata": {}}), 400),
        ] {
            let refused = self.patch(how, &object, wrong.clone()).await.unwrap_err();
            assert_eq!(refused.code, code, "{:?} {wrong}: {}", self.kind, refused.message);
        }
        self.remove(&object).await;
    }

    pub(super) async fn keeps_status_apart(&self) {
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
        assert!(
            holds(&written["status"], &status),
            "{:?}: {status} was written, and is {}",
            self.kind,
            written["status"]
        );
        self.remove(&object).await;
    }
}

/// Whether a value has all that another has; more may have become of it.
pub(super) fn holds(has: &Value, wanted: &Value) -> bool {
    match (has, wanted) {
        (Value::Object(has), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| has.get(key).is_some_and(|has| holds(has, wanted))),
        (Value::Array(has), Value::Array(wanted)) => wanted
            .iter()
            .all(|wanted| has.iter().any(|has| holds(has, wanted))),
        _ => has == wanted,
    }
}
