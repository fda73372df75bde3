use super::*;
use crate::schema::{SchemaRef, Schemas};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

fn schema() -> SchemaRef {
    Schemas::builtin().for_kind("apps", "v1", "Deployment").unwrap()
}

struct World {
    schema: SchemaRef,
    live: Option<Value>,
    clock: i64,
}

impl World {
    fn new() -> Self {
        Self {
            schema: schema(),
            live: None,
            clock: 0,
        }
    }

    fn write<T>(
        &mut self,
        manager: &str,
        subresource: &str,
        reset: &[&str],
        f: impl FnOnce(&Write<'_>, Option<&Value>) -> T,
    ) -> T {
        self.clock += 1;
        let now = Timestamp::from_second(self.clock).unwrap();
        let write = Write {
            manager,
            api_version: "apps/v1",
            subresource,
            now,
            schema: &self.schema,
            reset,
            versions: &OneVersion,
        };
        f(&write, self.live.as_ref())
    }

    fn keep(&mut self, mut object: Value) {
        object::set(&mut object, &["metadata", "uid"], "u");
        canon::canonicalize(&mut object, &self.schema);
        if let Some(live) = &self.live
            && settle_times(live, &mut object)
        {
            return;
        }
        self.live = Some(object);
    }

    fn apply(&mut self, manager: &str, spec: Value) -> Result<(), Status> {
        self.try_apply(manager, spec, false)
    }

    fn try_apply(&mut self, manager: &str, spec: Value, force: bool) -> Result<(), Status> {
        let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec});
        let applied = self.write(manager, "", &["status"], |write, live| {
            apply(live, config, write, force)
        })?;
        self.keep(applied);
        Ok(())
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        let mut new = self.live.clone().unwrap_or_else(
            || json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}}),
        );
        change(&mut new);
        canon::canonicalize(&mut new, &self.schema);
        let new = self.write(manager, "", &["status"], |write, live| {
            update_managed_fields(live, new, write)
        });
        self.keep(new);
    }

    fn spec(&self) -> &Value {
        &self.live.as_ref().unwrap()["spec"]
    }

    fn entry(&self, manager: &str) -> Value {
        let entries = object::get_list(self.live.as_ref().unwrap(), &["metadata", "managedFields"]);
        entries
            .iter()
            .find(|e| e["manager"] == manager)
            .cloned()
            .unwrap_or_default()
    }
}

fn containers(list: Value) -> Value {
    json!({"template": {"spec": {"containers": list}}})
}

#[test]
fn a_configuration_is_merged_without_owners_but_replaces_no_atom() {
    let live = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 1}});
    let config = json!({"metadata": {"labels": {"z": "w"}}, "spec": {"replicas": 2}});
    let made = merged(&live, &config, &schema()).unwrap();
    assert_eq!(
        made["metadata"],
        json!({"name": "a", "labels": {"x": "y", "z": "w"}})
    );
    assert_eq!(made["spec"]["replicas"], 2);
    let config = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    assert_eq!(
        merged(&live, &config, &schema()).unwrap_err(),
        "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"
    );
    assert!(merged(&live, &json!({"spec": {"replicas": "two"}}), &schema()).is_err());
}

#[test]
fn a_create_owns_what_it_set() {
    let mut world = World::new();
    world.update("kubectl-create", |d| {
        object::set(d, &["metadata", "labels", "app"], "web");
        object::set(d, &["spec"], json!({
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}},
        }));
    });
    // As `kubectl create deployment` leaves it: no "." for structs that are not pointers.
    assert_eq!(
        world.entry("kubectl-create"),
        json!({"manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1",
            "time": "1970-01-01T00:00:01Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                            ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}}})
    );
}

#[test]
fn another_appliers_field_conflicts() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 1})).unwrap();
    let status = world.apply("b", json!({"replicas": 2})).unwrap_err();
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#
    );
    let details = status.details.unwrap();
    assert_eq!(details.causes[0].reason, "FieldManagerConflict");
    assert_eq!(details.causes[0].message, r#"conflict with "a""#);
    assert_eq!(details.causes[0].field, ".spec.replicas");

    world.try_apply("b", json!({"replicas": 2}), true).unwrap();
    assert_eq!(world.spec()["replicas"], 2);
    assert_eq!(world.entry("a"), Value::Null);
}

#[test]
fn an_updaters_field_conflicts_with_its_version_named() {
    let mut world = World::new();
    world.update("kubectl-client-side-apply", |d| {
        object::set(d, &["spec"], json!({"replicas": 1, "paused": true}))
    });
    let status = world.apply("b", json!({"replicas": 2})).unwrap_err();
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    let status = world
        .apply("b", json!({"replicas": 2, "paused": false}))
        .unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.paused\n- .spec.replicas"
    );
}

#[test]
fn the_same_value_is_owned_together() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 1, "paused": true})).unwrap();
    world.apply("b", json!({"replicas": 1})).unwrap();
    assert_eq!(
        world.entry("b")["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    // a lets go of both; what b owns too stays.
    world.apply("a", json!({"minReadySeconds": 3})).unwrap();
    assert_eq!(world.spec()["replicas"], 1);
    assert_eq!(world.spec().get("paused"), None);
}

#[test]
fn fields_no_longer_applied_go() {
    let mut world = World::new();
    let full = json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "2"}]);
    world.apply("m", containers(full)).unwrap();
    world
        .apply(
            "m",
            containers(json!([{"name": "a", "env": [{"name": "Y", "value": "3"}]}])),
        )
        .unwrap();
    let left = json!([{"name": "a", "env": [{"name": "Y", "value": "3"}], "resources": {}}]);
    assert_eq!(world.spec()["template"]["spec"]["containers"], left);
}

#[test]
fn an_item_that_someone_else_added_to_stays() {
    let mut world = World::new();
    world
        .apply(
            "m",
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        )
        .unwrap();
    world
        .apply("n", containers(json!([{"name": "b", "command": ["x"]}])))
        .unwrap();
    world
        .apply("m", containers(json!([{"name": "a", "image": "1"}])))
        .unwrap();
    let left = json!([{"name": "a", "image": "1", "resources": {}}, {"name": "b", "command": ["x"], "resources": {}}]);
    assert_eq!(world.spec()["template"]["spec"]["containers"], left);
}

#[test]
fn a_field_that_was_updated_since_is_no_longer_the_appliers() {
    let mut world = World::new();
    world.apply("m", json!({"replicas": 1, "paused": true})).unwrap();
    world.update("scaler", |d| object::set(d, &["spec", "replicas"], 5));
    assert_eq!(world.entry("m")["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    world.apply("m", json!({"paused": true})).unwrap();
    assert_eq!(world.spec()["replicas"], 5);
}

#[test]
fn keys_have_defaults() {
    let mut world = World::new();
    world
        .apply(
            "m",
            containers(json!([{"name": "a", "ports": [{"containerPort": 80}]}])),
        )
        .unwrap();
    world.update("defaults", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP".into();
    });
    world
        .apply(
            "m",
            containers(json!([{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}])),
        )
        .unwrap();
    let ports = &world.spec()["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(
        *ports,
        json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}])
    );
}

#[test]
fn sets_and_atoms() {
    let mut world = World::new();
    world
        .apply("m", json!({"selector": {"matchLabels": {"a": "1"}}}))
        .unwrap();
    let status = world
        .apply("n", json!({"selector": {"matchLabels": {"b": "2"}}}))
        .unwrap_err();
    assert!(status.message.ends_with("conflict with \"m\": .spec.selector"));

    let with = |list: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "finalizers": list}});
    for (manager, list) in [("m", json!(["x/a"])), ("n", json!(["x/b"]))] {
        let done = world
            .write(manager, "", &[], |write, live| {
                apply(live, with(list), write, false)
            })
            .unwrap();
        world.keep(done);
    }
    assert_eq!(
        world.live.as_ref().unwrap()["metadata"]["finalizers"],
        json!(["x/a", "x/b"])
    );
    assert_eq!(
        world.entry("n")["fieldsV1"],
        json!({"f:metadata": {"f:finalizers": {"v:\"x/b\"": {}}}})
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut world = World::new();
    let spec = json!({"replicas": 1, "template": {"spec": {"hostNetwork": false, "containers": [
        {"name": "a", "resources": {"limits": {"cpu": "1000m"}}}]}}});
    world.apply("m", spec.clone()).unwrap();
    let before = world.live.clone();
    world.apply("m", spec).unwrap();
    assert_eq!(world.live, before);
    world.update("u", |_| {});
    assert_eq!(world.live, before);
}

#[test]
fn a_status_write_owns_status_alone() {
    let mut world = World::new();
    world.update("creator", |d| object::set(d, &["spec"], json!({"replicas": 1})));
    let mut new = world.live.clone().unwrap();
    object::set(&mut new, &["status", "replicas"], 3);
    object::set(&mut new, &["spec", "replicas"], 9);
    let reset = &["metadata.labels", "spec"];
    let new = world.write("kcm", "status", reset, |write, live| {
        update_managed_fields(live, new, write)
    });
    world.keep(new);
    assert_eq!(world.entry("kcm")["subresource"], "status");
    assert_eq!(
        world.entry("kcm")["fieldsV1"],
        json!({"f:status": {"f:replicas": {}}})
    );
    assert_eq!(
        world.entry("creator")["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn objects_without_entries_get_a_manager_before_the_first_apply() {
    let mut world = World::new();
    world.update("x", |d| object::set(d, &["spec"], json!({"replicas": 1})));
    object::remove(world.live.as_mut().unwrap(), &["metadata", "managedFields"]);
    // Tracking was stopped: plain writes leave it at that.
    world.update("y", |d| object::set(d, &["spec", "paused"], true));
    assert_eq!(world.entry("y"), Value::Null);
    let status = world.apply("m", json!({"replicas": 2})).unwrap_err();
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
    world.apply("m", json!({"minReadySeconds": 2})).unwrap();
    assert_eq!(world.entry("before-first-apply")["operation"], "Update");
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client() {
    let mut world = World::new();
    let last = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n"},"spec":{"replicas":1}}"#;
    world.update("kubectl-client-side-apply", |d| {
        object::set(d, &["spec"], json!({"replicas": 1, "paused": true}));
        object::set_annotation(d, LAST_APPLIED, last);
    });
    assert!(world.apply("other", json!({"replicas": 2})).is_err());
    world.apply("kubectl", json!({"replicas": 2})).unwrap();
    assert_eq!(world.spec()["replicas"], 2);
    let annotation = object::annotation(world.live.as_ref().unwrap(), LAST_APPLIED).unwrap();
    assert!(annotation.contains(r#""replicas":2"#) && annotation.ends_with('\n'));
    // What it had not applied still conflicts.
    assert!(
        world
            .apply("kubectl", json!({"replicas": 2, "paused": false}))
            .is_err()
    );
}

#[test]
fn old_updaters_are_merged_into_one() {
    let mut world = World::new();
    for n in 0..15 {
        world.update(&format!("m{n}"), |d| {
            object::set(d, &["metadata", "annotations", &format!("a{n}")], "x")
        });
    }
    let live = world.live.as_ref().unwrap();
    assert_eq!(object::get_list(live, &["metadata", "managedFields"]).len(), 10);
    let annotations = &world.entry("ancient-changes")["fieldsV1"]["f:metadata"]["f:annotations"];
    assert!(annotations.get("f:a0").is_some() && annotations.get("f:a5").is_some());
}

#[test]
fn clients_can_reset_managed_fields() {
    let mut world = World::new();
    world.update("m", |d| object::set(d, &["spec"], json!({"replicas": 1})));
    world.update("m", |d| {
        object::set(d, &["metadata", "managedFields"], json!([{}]))
    });
    assert!(object::get(world.live.as_ref().unwrap(), &["metadata", "managedFields"]).is_null());
}

#[test]
fn configurations_must_fit_the_schema() {
    let mut world = World::new();
    let prefix = "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): ";
    for (spec, text) in [
        (json!({"foo": 1}), ".spec.foo: field not declared in schema"),
        (
            json!({"replicas": "x"}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            containers(json!([{"name": "a"}, {"name": "a"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ] {
        assert_eq!(
            world.apply("m", spec).unwrap_err().message,
            format!("{prefix}{text}")
        );
    }
    let config = json!({"apiVersion": "apps/v1beta1"});
    let status = world
        .write("m", "", &[], |write, live| apply(live, config, write, false))
        .unwrap_err();
    assert_eq!(status.code, 400);
}

fn any_spec() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[XYZ]", "[12]", 0..3);
    let container = (proptest::option::of("[12]"), env).prop_map(|(image, env)| {
        let env: Vec<Value> = env
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut container = json!({});
        if let Some(image) = image {
            container["image"] = image.into();
        }
        if !env.is_empty() {
            container["env"] = env.into();
        }
        container
    });
    let list = proptest::collection::btree_map("[abc]", container, 1..4);
    (proptest::option::of(1..3i64), list).prop_map(|(replicas, list)| {
        let list: Vec<Value> = list
            .into_iter()
            .map(|(name, mut container)| {
                container["name"] = name.into();
                container
            })
            .collect();
        let mut spec = containers(list.into());
        if let Some(replicas) = replicas {
            spec["replicas"] = replicas.into();
        }
        spec
    })
}

proptest! {
    #[test]
    fn apply_ends_with_the_last_configuration(specs in proptest::collection::vec(any_spec(), 1..5)) {
        let mut world = World::new();
        for spec in &specs {
            world.try_apply("m", spec.clone(), false).unwrap();
        }
        // One manager alone: the object is what it applied last.
        let last = specs.last().unwrap();
        prop_assert_eq!(world.spec().get("replicas"), last.get("replicas"));
        let mut wanted = json!({"spec": last});
        canon::canonicalize(&mut wanted, &world.schema);
        prop_assert_eq!(&world.spec()["template"]["spec"].get("containers").cloned().unwrap_or_else(|| json!([])),
            &wanted["spec"]["template"]["spec"]["containers"]);
    }

    #[test]
    fn forced_apply_wins_and_is_stable(a in any_spec(), b in any_spec(), c in any_spec()) {
        let mut world = World::new();
        world.try_apply("a", a, true).unwrap();
        world.try_apply("b", b, true).unwrap();
        world.try_apply("a", c.clone(), true).unwrap();
        prop_assert!(c.get("replicas").is_none() || world.spec()["replicas"] == c["replicas"]);
        let before = world.live.clone();
        world.try_apply("a", c, false).unwrap();
        prop_assert_eq!(&world.live, &before);
    }
}
