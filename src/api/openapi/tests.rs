use super::*;
use crate::kinds;

fn all() -> Vec<KindRef> {
    kinds::all().iter().map(|kind| KindRef::from(*kind)).collect()
}

fn v3(group: &str, version: &str) -> Value {
    serde_json::from_slice(&v3_document(&all(), group, version).unwrap()).unwrap()
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
    for place in index["paths"].as_object().unwrap().keys() {
        let (group, version) = match place.split('/').collect::<Vec<_>>()[..] {
            ["api", version] => ("", version.to_owned()),
            ["apis", group, version] => (group, version.to_owned()),
            _ => panic!("{place}"),
        };
        let document = v3(group, &version);
        check_references(&document, &document);
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
    assert!(v3_document(&all(), "nothing", "v1").is_none());
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
}
