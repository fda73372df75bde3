//! What is refused, and bodies in another form.

use api::patch;
use api::protobuf;
use api::request::Verb;
use api::schema::Schemas;
use serde_json::{Value, json};

use super::Trial;

impl Trial<'_> {
    pub(super) async fn is_checked(&self) {
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
    pub(super) async fn speaks_protobuf(&self) {
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

        let mut new = self.made(&object).await;
        new["metadata"]["labels"]["every"] = "binary".into();
        api::object::remove(&mut new, &["metadata", "managedFields"]);
        let mut put = self.request(Verb::Update, &object);
        put.options.field_validation = String::new();
        put.body = protobuf::encode(&new, &schema).into();
        put.content_type = "application/vnd.kubernetes.protobuf".into();
        let changed = self.world.call(put).await;
        let mut changed = changed.unwrap_or_else(|status| panic!("{:?}: {}", self.kind, status.message));
        for object in [&mut changed, &mut new] {
            for path in [
                ["metadata", "managedFields"],
                ["metadata", "resourceVersion"],
                ["metadata", "generation"],
            ] {
                api::object::remove(object, &path);
            }
        }
        assert_eq!(changed, new, "{:?}", self.kind);
        self.remove(&object).await;
    }
}
