//! Lists, watches, and what is picked from them.

use api::request::{EventKind, Options, Verb};
use client::Api;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Trial;

impl Trial<'_> {
    pub(super) async fn is_listed_and_watched(&self) {
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
}
