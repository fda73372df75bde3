//! Objects that the server keeps in order by itself.

use std::sync::Arc;
use std::time::Duration;

use api::request::{Options, Request, ResourceRef, User, Verb};
use api::status::Status;
use serde_json::{Value, json};

use super::{World, text, world};

const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const REGISTRATION: &str = "apiregistration.k8s.io";

fn request(verb: Verb, (group, plural): (&str, &str), name: &str) -> Request {
    let resource = ResourceRef::new(group, "v1", plural);
    Request::new(User::new("admin", &["system:masters"]), verb, resource, "", name)
}

impl World {
    /// The objects of a collection once `good` says that they are as they should be.
    async fn once(&self, collection: (&str, &str), good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut last = Vec::new();
        let settled = async {
            loop {
                let list = self.call(request(Verb::List, collection, "")).await.unwrap();
                last = list["items"].as_array().unwrap().clone();
                if good(&last) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, settled).await;
        assert!(in_time.is_ok(), "{collection:?} are {last:#?}");
        last
    }

    async fn make(&self, collection: (&str, &str), object: Value) -> Result<Value, Status> {
        let mut request = request(Verb::Create, collection, "");
        request.body = object.to_string().into();
        self.call(request).await
    }

    async fn remove(&self, collection: (&str, &str), name: &str) {
        let mut request = request(Verb::Delete, collection, name);
        request.options = Options::default();
        self.call(request).await.unwrap();
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn named<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| text(object, "/metadata/name") == name)
}

#[tokio::test]
async fn the_servers_own_objects_are_there_and_stay() {
    let world = world().await;
    tokio::spawn(world.core.clone().keep_standard_objects(Arc::default()));
    let schemas = (FLOW, "flowschemas");
    let judged =
        |objects: &[Value]| objects.len() == 13 && objects.iter().all(|o| condition(o, "Dangling").is_some());
    let all = world.once(schemas, judged).await;
    assert!(
        all.iter()
            .all(|schema| condition(schema, "Dangling").unwrap()["status"] == "False")
    );
    world
        .once((FLOW, "prioritylevelconfigurations"), |levels| levels.len() == 8)
        .await;
    world.remove(schemas, "catch-all").await;
    world.once(schemas, judged).await;

    let services = (REGISTRATION, "apiservices");
    let available = |objects: &[Value]| {
        objects.len() > 20
            && objects
                .iter()
                .all(|o| condition(o, "Available").is_some_and(|c| c["status"] == "True"))
    };
    let all = world.once(services, available).await;
    let core = named(&all, "v1.").unwrap();
    assert_eq!(
        core["spec"],
        json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
    );
}

#[tokio::test]
async fn a_definitions_api_service_comes_and_goes_with_it() {
    let world = world().await;
    tokio::spawn(world.core.clone().keep_standard_objects(Arc::default()));
    let definitions = ("apiextensions.k8s.io", "customresourcedefinitions");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    world.make(definitions, definition).await.unwrap();
    let services = (REGISTRATION, "apiservices");
    let there = |objects: &[Value]| {
        named(objects, "v1.example.com").is_some_and(|service| condition(service, "Available").is_some())
    };
    let all = world.once(services, there).await;
    let spec = &named(&all, "v1.example.com").unwrap()["spec"];
    assert_eq!(
        (&spec["groupPriorityMinimum"], &spec["versionPriority"]),
        (&json!(1000), &json!(100))
    );
    world.remove(definitions, "boats.example.com").await;
    world
        .once(services, |objects| named(objects, "v1.example.com").is_none())
        .await;
}

#[tokio::test]
async fn a_schema_without_its_level_is_told_so() {
    let world = world().await;
    tokio::spawn(world.core.clone().keep_standard_objects(Arc::default()));
    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "a"}}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}],
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "lost"},
        "spec": {"priorityLevelConfiguration": {"name": "nowhere"}, "rules": [rule]},
    });
    world.make((FLOW, "flowschemas"), schema).await.unwrap();
    let dangles = |objects: &[Value]| {
        let lost = named(objects, "lost").and_then(|schema| condition(schema, "Dangling"));
        lost.is_some_and(|condition| condition["status"] == "True")
    };
    world.once((FLOW, "flowschemas"), dangles).await;
}
