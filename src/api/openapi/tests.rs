use super::*;
use crate::kinds;

fn all() -> Vec<KindRef> {
    kinds::all().iter().map(|kind| KindRef::from(*kind)).collect()
}

fn v3(group: &str, version: &str) -> Value {
    v3_document(&all(), Place::Version(group, version)).unwrap()
}

/// Every reference in a document must lead somewhere.
fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let place = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(place).is_some(), "{reference}");
            }
            map.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn the_index_names_every_group_version() {
    let index = v3_index(&all());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
    assert!(index["paths"].get("api/v1").is_some());
    for text in index["paths"].as_object().unwrap().keys() {
        let place = Place::parse(text).unwrap();
        assert_eq!(place.to_string(), *text);
        let document = v3_document(&all(), place).unwrap();
        check_references(&document, &document);
        assert!(document["paths"].get(format!("/{text}/")).is_some(), "{text}");
    }
    for place in ["api", "apis", "apis/apps", "version"] {
        assert!(index["paths"].get(place).is_some(), "{place}");
    }
}

#[test]
fn v3_has_what_kubectl_looks_for() {
    let document = v3("apps", "v1");
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["containers"]["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(spec["containers"]["x-kubernetes-list-type"], "map");
    assert_eq!(spec["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(spec["affinity"]["allOf"][0]["$ref"].is_string());
    assert!(spec["containers"]["description"].as_str().unwrap().len() > 20);
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert_eq!(deployment.get("required"), None);
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(item["get"]["x-kubernetes-action"], "get");
    assert_eq!(item["get"]["operationId"], "readAppsV1NamespacedDeployment");
    assert_eq!(
        item["patch"]["x-kubernetes-group-version-kind"]["kind"],
        "Deployment"
    );
    let names: Vec<&str> = item["patch"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert_eq!(
        scale["get"]["x-kubernetes-group-version-kind"]["group"],
        "autoscaling"
    );
    assert!(v3_document(&all(), Place::Version("nothing", "v1")).is_none());
    assert!(v3_document(&all(), Place::Group("nothing")).is_none());
}

#[test]
fn v2_has_definitions_and_references() {
    let document = v2(&all());
    check_references(&document, &document);
    let definitions = &document["definitions"];
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
        "int-or-string"
    );
    assert!(definitions["io.k8s.api.core.v1.PodList"]["properties"]["items"]["items"]["$ref"].is_string());
    for kind in &all() {
        let marked = definitions.as_object().unwrap().values().any(|schema| {
            let marks = schema["x-kubernetes-group-version-kind"].as_array();
            marks.is_some_and(|marks| {
                marks
                    .iter()
                    .any(|m| m["kind"] == kind.kind && m["group"] == kind.group)
            })
        });
        assert!(marked, "{kind:?}");
    }
}

#[test]
fn every_kind_of_the_table_is_described_as_we_know_it() {
    // Both sources must agree on the fields of every type, or decoding and explaining would differ.
    let document = v2(&all());
    for (name, schema) in document["definitions"].as_object().unwrap() {
        let Some(known) =
            crate::schema::table_name(name).and_then(|n| crate::schema::Schemas::builtin().find(n))
        else {
            continue;
        };
        for field in schema["properties"].as_object().into_iter().flatten() {
            assert!(known.get().field(field.0).is_some(), "{name}.{}", field.0);
        }
        for field in &known.get().fields {
            assert!(
                schema["properties"].get(field.name.as_ref()).is_some(),
                "{name}.{} in our table only",
                field.name
            );
        }
    }
}

#[test]
fn the_protobuf_form_carries_the_definitions() {
    use crate::protobuf::wire::{Item, Reader};
    let bytes = v2_protobuf(&v2(&all()));
    let document: Vec<(u32, Item<'_>)> = Reader::new(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(document[0], (1, Item::Bytes(b"2.0")));
    let definitions = document.iter().find(|(n, _)| *n == 9).unwrap().1.bytes().unwrap();
    let names: Vec<String> = Reader::new(definitions)
        .map(|item| {
            let named = item.unwrap().1.bytes().unwrap();
            let name = Reader::new(named).next().unwrap().unwrap().1.bytes().unwrap();
            String::from_utf8(name.to_vec()).unwrap()
        })
        .collect();
    assert!(names.iter().any(|name| name == "io.k8s.api.apps.v1.Deployment"));
    // A repeated `Any` in field 20, whose text is YAML.
    let possible = b"\xa2\x01\x08\x12\x06\"SCTP\"";
    assert!(bytes.windows(possible.len()).any(|at| at == possible));
}

#[test]
fn v3_has_a_protobuf_form_too() {
    use crate::protobuf::wire::{Item, Reader};
    fn field(message: &[u8], number: u32) -> &[u8] {
        let found = Reader::new(message)
            .map(Result::unwrap)
            .find(|(n, _)| *n == number);
        found.unwrap().1.bytes().unwrap()
    }
    let bytes = v3_protobuf(&v3("apps", "v1"));
    assert_eq!(Reader::new(&bytes).next(), Some(Ok((1, Item::Bytes(b"3.0.0")))));
    // Components, their schemas, the first pair: name and `SchemaOrReference`.
    let first = field(field(field(&bytes, 5), 1), 1);
    assert!(field(first, 1).starts_with(b"io.k8s."));
    let schema = field(field(first, 2), 1);
    assert_eq!(field(schema, 25), b"object");
    // Properties refer to other types by `allOf`, and have a standard value that is a text.
    let reference = b"#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec";
    assert!(bytes.windows(reference.len()).any(|at| at == reference));
    let standard = b"\x8a\x02\x05\x1a\x03TCP";
    assert!(bytes.windows(standard.len()).any(|at| at == standard));
}

#[test]
fn schemas_say_which_values_there_are_and_which_are_standard() {
    let pick = |document: &Value, root: &str, path: &[&str]| {
        let schema = document.pointer(root).unwrap();
        path.iter().fold(schema.clone(), |at, key| at[*key].clone())
    };
    let (two, three) = (v2(&all()), v3("", "v1"));
    let port = ["io.k8s.api.core.v1.ContainerPort", "properties", "protocol"];
    let (old, new) = (
        pick(&two, "/definitions", &port),
        pick(&three, "/components/schemas", &port),
    );
    for protocol in [&old, &new] {
        assert_eq!(protocol["enum"], json!(["SCTP", "TCP", "UDP"]));
        let text = protocol["description"].as_str().unwrap();
        assert!(
            text.ends_with("Possible enum values:\n - `\"SCTP\"`\n - `\"TCP\"`\n - `\"UDP\"`"),
            "{text}"
        );
    }
    // Clients of v2 would write defaults into what they send.
    assert_eq!((old.get("default"), &new["default"]), (None, &json!("TCP")));
    let spec = [
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        "properties",
        "accessModes",
        "items",
    ];
    let mode = pick(&three, "/components/schemas", &spec);
    assert_eq!(
        (mode["enum"].as_array().unwrap().len(), &mode["default"]),
        (4, &json!(""))
    );
    let items = pick(
        &three,
        "/components/schemas",
        &["io.k8s.api.core.v1.PodList", "properties", "items", "items"],
    );
    assert_eq!(
        items,
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Pod"}], "default": {}})
    );
}

/// Path, method, id, action and the names of parameters of operations that clients are generated from.
#[test]
fn operations_are_those_that_generated_clients_know() {
    let document = v2(&all());
    let object = "/api/v1/namespaces/{namespace}/pods/{name}";
    let watched = "/api/v1/watch/namespaces/{namespace}/pods";
    for (path, method, id, action) in [
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list"),
        (object, "delete", "deleteCoreV1NamespacedPod", "delete"),
        (
            &format!("{object}/exec"),
            "post",
            "connectCoreV1PostNamespacedPodExec",
            "connect",
        ),
        (
            &format!("{object}/log"),
            "get",
            "readCoreV1NamespacedPodLog",
            "get",
        ),
        (
            &format!("{object}/proxy"),
            "head",
            "connectCoreV1HeadNamespacedPodProxy",
            "connect",
        ),
        (
            &format!("{object}/proxy/{{path}}"),
            "options",
            "connectCoreV1OptionsNamespacedPodProxyWithPath",
            "connect",
        ),
        (
            &format!("{object}/eviction"),
            "post",
            "createCoreV1NamespacedPodEviction",
            "post",
        ),
        (
            "/api/v1/watch/pods",
            "get",
            "watchCoreV1PodListForAllNamespaces",
            "watchlist",
        ),
        (watched, "get", "watchCoreV1NamespacedPodList", "watchlist"),
        (
            &format!("{watched}/{{name}}"),
            "get",
            "watchCoreV1NamespacedPod",
            "watch",
        ),
        (
            "/api/v1/nodes",
            "delete",
            "deleteCoreV1CollectionNode",
            "deletecollection",
        ),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], id, "{path}");
        assert_eq!(operation["x-kubernetes-action"], action, "{path}");
    }
    for (path, id) in [
        ("/api/v1/", "getCoreV1APIResources"),
        ("/apis/apps/", "getAppsAPIGroup"),
        ("/apis/", "getAPIVersions"),
        ("/version/", "getCodeVersion"),
    ] {
        assert_eq!(document["paths"][path]["get"]["operationId"], id, "{path}");
    }
    let answered =
        |path: &str| document["paths"][path]["delete"]["responses"]["200"]["schema"]["$ref"].clone();
    assert_eq!(answered(object), "#/definitions/io.k8s.api.core.v1.Pod");
    let map = "/api/v1/namespaces/{namespace}/configmaps/{name}";
    assert_eq!(
        answered(map),
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Status"
    );
    let exec = document["paths"][format!("{object}/exec")]["parameters"]
        .as_array()
        .unwrap();
    let named: Vec<_> = exec.iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(
        named,
        [
            "name",
            "namespace",
            "command",
            "container",
            "stderr",
            "stdin",
            "stdout",
            "tty"
        ]
    );
}

#[test]
fn no_two_operations_have_one_id() {
    let document = v2(&all());
    let places = document["paths"].as_object().unwrap().values();
    let operations = places.flat_map(|place| place.as_object().unwrap().values());
    let mut ids: Vec<&str> = operations
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let count = ids.len();
    assert!(count > 500, "{count}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
