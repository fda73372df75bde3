//! Custom resources over a real store: what a definition describes is served by every verb.

use std::time::Duration;

use api::custom::is_true;

use super::*;

const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
const THINGS: (&str, &str) = ("example.com", "things");

fn definition() -> Value {
    let rules = json!([{"rule": "self.size <= 10", "message": "at most ten"}]);
    let spec = json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
        "size": {"type": "integer", "default": 1}, "colour": {"type": "string", "enum": ["red", "blue"]},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}}}});
    let status = json!({"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}});
    let version = |name: &str, stored: bool| {
        json!({"name": name, "served": true, "storage": stored,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
            "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.colour"}]})
    };
    json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
        "versions": [version("v1", true), version("v1beta1", false)]}})
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// A world in which things are served.
async fn world_with_things() -> World {
    let world = world().await;
    world.create(DEFINITIONS, "", definition()).await.unwrap();
    eventually(|| async { world.core.kinds().find("example.com", "v1", "things").is_some() }).await;
    world
}

async fn eventually<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("in good time");
}

#[tokio::test]
async fn what_is_defined_is_served() {
    let world = world_with_things().await;
    let crd = world
        .call(request(Verb::Get, DEFINITIONS, "", "things.example.com"))
        .await
        .unwrap();
    assert!(
        is_true(&crd, "Established") && is_true(&crd, "NamesAccepted"),
        "{crd}"
    );
    assert_eq!(crd["status"]["acceptedNames"]["shortNames"], json!(["th"]));

    let made = world
        .create(THINGS, "default", thing("a", json!({"colour": "red", "odd": 1})))
        .await
        .unwrap();
    assert_eq!(
        made["spec"],
        json!({"colour": "red", "size": 1}),
        "defaults filled, unknown fields pruned"
    );
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(world.get(THINGS, "a").await.unwrap(), made);
    let wrong = thing("b", json!({"colour": "green", "size": 11}));
    let refused = world.create(THINGS, "default", wrong).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Thing.example.com \"b\" is invalid: [spec.colour: Unsupported value: \"green\": supported values: \"red\", \"blue\", \
         <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the \
         existing errors to complete validation]"
    );
    let refused = world
        .create(THINGS, "default", thing("b", json!({"size": 11})))
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "Thing.example.com \"b\" is invalid: spec: Invalid value: at most ten"
    );
    let by_field = Options {
        field_selector: "spec.colour=red".into(),
        ..Options::default()
    };
    assert_eq!(
        world.list(THINGS, by_field).await.unwrap()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn things_are_patched_applied_and_scaled() {
    let world = world_with_things().await;
    world
        .create(THINGS, "default", thing("a", json!({})))
        .await
        .unwrap();
    let patched = world
        .patch(PatchType::Merge, THINGS, "a", json!({"spec": {"size": 2}}))
        .await
        .unwrap();
    assert_eq!(patched["metadata"]["generation"], 2);
    let strategic = world
        .patch(PatchType::Strategic, THINGS, "a", json!({}))
        .await
        .unwrap_err();
    assert_eq!(strategic.code, 415);

    let apply = |manager: &str, spec: Value| {
        let mut request = request(Verb::Patch(PatchType::Apply), THINGS, "default", "b");
        request.options.field_manager = manager.into();
        request.body = thing("b", spec).to_string().into();
        request
    };
    world
        .call(apply("one", json!({"parts": [{"name": "x", "n": 1}]})))
        .await
        .unwrap();
    let both = world
        .call(apply("two", json!({"parts": [{"name": "y", "n": 2}]})))
        .await
        .unwrap();
    assert_eq!(
        both["spec"]["parts"],
        json!([{"name": "x", "n": 1}, {"name": "y", "n": 2}])
    );
    let conflict = world
        .call(apply("two", json!({"parts": [{"name": "x", "n": 3}]})))
        .await
        .unwrap_err();
    assert!(
        conflict.message.contains("conflict with \"one\""),
        "{}",
        conflict.message
    );
    let mut odd = thing("b", json!({}));
    odd["odd"] = 1.into();
    let mut odd_apply = apply("one", json!({}));
    odd_apply.body = odd.to_string().into();
    for validation in ["Strict", "Ignore"] {
        odd_apply.options.field_validation = validation.into();
        let refused = world.call(odd_apply.clone()).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                500,
                "failed to create typed patch object (default/b; example.com/v1, Kind=Thing): .odd: field not declared \
                 in schema"
            )
        );
    }

    let mut scale = request(Verb::Patch(PatchType::Merge), THINGS, "default", "a");
    scale.subresource = "scale".into();
    scale.body = json!({"spec": {"replicas": 5}}).to_string().into();
    let scaled = world.call(scale).await.unwrap();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(5))
    );
    assert_eq!(world.get(THINGS, "a").await.unwrap()["spec"]["size"], 5);

    let mut status = world.get(THINGS, "a").await.unwrap();
    status["status"] = json!({"size": 5, "selector": "a=b"});
    status["spec"]["size"] = json!(9);
    let written = world.update(THINGS, "status", status).await.unwrap();
    assert_eq!(
        (&written["status"]["size"], &written["spec"]["size"]),
        (&json!(5), &json!(5))
    );
    let mut get = request(Verb::Get, THINGS, "default", "a");
    get.subresource = "scale".into();
    let shown = world.call(get).await.unwrap();
    assert_eq!(shown["status"], json!({"replicas": 5, "selector": "a=b"}));
}

#[tokio::test]
async fn versions_show_the_same_objects() {
    let world = world_with_things().await;
    world
        .create(THINGS, "default", thing("a", json!({"size": 3})))
        .await
        .unwrap();
    let mut old = request(Verb::Get, THINGS, "default", "a");
    old.resource.version = "v1beta1".into();
    let seen = world.call(old.clone()).await.unwrap();
    assert_eq!(
        (&seen["apiVersion"], &seen["spec"]["size"]),
        (&json!("example.com/v1beta1"), &json!(3))
    );
    let mut new = seen.clone();
    new["spec"]["size"] = json!(4);
    old.verb = Verb::Update;
    old.body = new.to_string().into();
    assert_eq!(
        world.call(old).await.unwrap()["apiVersion"],
        "example.com/v1beta1"
    );
    let stored = world.get(THINGS, "a").await.unwrap();
    assert_eq!(
        (&stored["apiVersion"], &stored["spec"]["size"]),
        (&json!("example.com/v1"), &json!(4))
    );
}

#[tokio::test]
async fn a_new_default_holds_for_old_objects() {
    let world = world_with_things().await;
    world
        .create(THINGS, "default", thing("a", json!({})))
        .await
        .unwrap();
    let get = || request(Verb::Get, DEFINITIONS, "", "things.example.com");
    let mut crd = world.call(get()).await.unwrap();
    for version in crd["spec"]["versions"].as_array_mut().unwrap() {
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec["colour"]["default"] = json!("blue");
    }
    world.update(DEFINITIONS, "", crd).await.unwrap();
    eventually(|| async { world.get(THINGS, "a").await.unwrap()["spec"]["colour"] == "blue" }).await;
    let listed = world.list(THINGS, Options::default()).await.unwrap();
    assert_eq!(listed["items"][0]["spec"]["colour"], "blue");
}

#[tokio::test]
async fn watches_end_with_their_kind() {
    let world = world_with_things().await;
    let watch = request(Verb::Watch, THINGS, "default", "");
    let events = world.core.watch(watch).await.unwrap();
    world
        .call(request(Verb::Delete, DEFINITIONS, "", "things.example.com"))
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), events.count()).await;
    assert_eq!(ended.expect("in good time"), 0);
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let world = world_with_things().await;
    world
        .create(THINGS, "default", thing("a", json!({})))
        .await
        .unwrap();
    let marked = world
        .call(request(Verb::Delete, DEFINITIONS, "", "things.example.com"))
        .await
        .unwrap();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    eventually(|| async {
        world
            .call(request(Verb::Get, DEFINITIONS, "", "things.example.com"))
            .await
            .is_err()
    })
    .await;
    let gone = world.get(THINGS, "a").await.unwrap_err();
    assert_eq!(gone.code, 404);
    world.create(DEFINITIONS, "", definition()).await.unwrap();
    eventually(|| async { world.core.kinds().find("example.com", "v1", "things").is_some() }).await;
    let empty = world.list(THINGS, Options::default()).await.unwrap();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn a_definition_named_as_a_built_in_kind_takes_nothing_along() {
    let world = world().await;
    let leases = ("coordination.k8s.io", "leases");
    world
        .create(leases, "default", json!({"metadata": {"name": "l"}}))
        .await
        .unwrap();
    let mut overlapping = definition();
    overlapping["metadata"] = json!({"name": "leases.coordination.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, to try it"}});
    overlapping["spec"]["group"] = json!("coordination.k8s.io");
    overlapping["spec"]["names"] = json!({"plural": "leases", "kind": "Lease"});
    world.create(DEFINITIONS, "", overlapping).await.unwrap();
    let there = || world.call(request(Verb::Get, DEFINITIONS, "", "leases.coordination.k8s.io"));
    eventually(|| async { there().await.unwrap()["status"]["acceptedNames"]["plural"] == "leases" }).await;
    let delete = request(Verb::Delete, DEFINITIONS, "", "leases.coordination.k8s.io");
    world.call(delete).await.unwrap();
    eventually(|| async { there().await.is_err() }).await;
    world.get(leases, "l").await.unwrap();
}

#[tokio::test]
async fn names_are_free_again_when_their_owner_goes() {
    let world = world_with_things().await;
    let mut second = definition();
    second["metadata"]["name"] = json!("stuffs.example.com");
    second["spec"]["names"] = json!({"plural": "stuffs", "kind": "Thing"});
    world.create(DEFINITIONS, "", second).await.unwrap();
    let refused = || async {
        let crd = world
            .call(request(Verb::Get, DEFINITIONS, "", "stuffs.example.com"))
            .await
            .unwrap();
        crd["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["reason"] == "SingularConflict"))
    };
    eventually(refused).await;
    world
        .call(request(Verb::Delete, DEFINITIONS, "", "things.example.com"))
        .await
        .unwrap();
    eventually(|| async { world.core.kinds().find("example.com", "v1", "stuffs").is_some() }).await;
}

#[tokio::test]
async fn rules_say_why_and_may_do_without_what_was() {
    let world = world().await;
    let rules = json!([{
        "rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true,
        "message": "must not shrink", "reason": "FieldValueForbidden",
    }, {
        "rule": "self <= 10", "message": "at most ten", "reason": "FieldValueRequired",
    }]);
    let mut definition = definition();
    for version in ["0", "1"] {
        let place =
            format!("/spec/versions/{version}/schema/openAPIV3Schema/properties/spec/properties/size");
        definition.pointer_mut(&place).unwrap()["x-kubernetes-validations"] = rules.clone();
    }
    world.create(DEFINITIONS, "", definition).await.unwrap();
    eventually(|| async { world.core.kinds().find("example.com", "v1", "things").is_some() }).await;
    let causes = |status: Status| {
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        let told = causes.into_iter().map(|cause| (cause.reason, cause.field));
        (status.code, told.collect::<Vec<_>>())
    };
    let cause = |reason: &str| vec![(reason.to_owned(), "spec.size".to_owned())];
    // Nothing was there before, and the rule is asked nevertheless.
    let mut live = world
        .create(THINGS, "default", thing("a", json!({"size": 5})))
        .await
        .unwrap();
    live["spec"]["size"] = json!(4);
    let shrunk = world.update(THINGS, "", live.clone()).await.unwrap_err();
    assert_eq!(causes(shrunk), (422, cause("FieldValueForbidden")));
    live["spec"]["size"] = json!(6);
    world.update(THINGS, "", live).await.unwrap();
    let many = world
        .create(THINGS, "default", thing("b", json!({"size": 11})))
        .await
        .unwrap_err();
    let (code, told) = causes(many);
    assert!(
        code == 422 && told.contains(&cause("FieldValueRequired")[0]),
        "{told:?}"
    );
}
