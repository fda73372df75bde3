//! Rules of the API that clients build on, tried on the real binary: pages, watches and the end of namespaces.

use std::io::Read;

use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn pages_and_watches_keep_to_their_options() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start_as("server", dir.join("data"), &[]);
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            cluster.ok(&["create", "configmap", name, "--from-literal=k=v"]);
            cluster.ok(&["label", "configmap", name, "page=yes"]);
        }
        pages_outlive_a_restart(&mut cluster);
        watches_end_and_begin_as_asked(&cluster);
        forms_are_negotiated(&cluster);
        requests_that_make_no_sense_are_refused(&cluster);
    });
}

fn get(cluster: &Cluster, path: &str) -> Value {
    let answer = cluster.call(&As::Admin, "GET", path, "", "");
    assert_eq!(answer.code, 200, "{path}: {}", answer.body);
    answer.body
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|item| item["metadata"]["name"].as_str().expect("a name"))
        .collect()
}

fn pages_outlive_a_restart(cluster: &mut Cluster) {
    let first = get(cluster, &format!("{MAPS}?limit=3"));
    assert_eq!(names(&first), ["a", "b", "c"]);
    // kube-root-ca.crt is there too.
    assert_eq!(first["metadata"]["remainingItemCount"], 5);
    cluster.ok(&["create", "configmap", "bb"]);
    cluster.ok(&["delete", "configmap", "d"]);
    cluster.stop();
    cluster.restart();
    let go_on = first["metadata"]["continue"].as_str().expect("a token");
    let second = get(cluster, &format!("{MAPS}?limit=3&continue={go_on}"));
    assert_eq!(names(&second), ["d", "e", "f"], "the state of the first page");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let chosen = get(cluster, &format!("{MAPS}?limit=2&labelSelector=page%3Dyes"));
    assert_eq!(names(&chosen), ["a", "b"]);
    assert_eq!(
        chosen["metadata"].get("remainingItemCount"),
        None,
        "not counted where there is a selector"
    );
    let told = cluster.ok(&["get", "configmaps", "--chunk-size=2", "-o", "name"]);
    assert_has(
        &told,
        &[
            "configmap/a\n",
            "configmap/bb\n",
            "configmap/g\n",
            "configmap/kube-root-ca.crt\n",
        ],
    );
    assert_eq!(told.lines().count(), 8);
}

/// The events of a watch that ends by itself: type and name of each.
fn events(cluster: &Cluster, path: &str) -> Vec<(String, String)> {
    let mut watch = cluster.stream(path);
    let mut text = String::new();
    let mut out = watch.stdout.take().expect("an output");
    out.read_to_string(&mut text).expect("events");
    watch.wait().expect("curl");
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("an event");
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["object"];
        let bookmark = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
        let name = word(&object["metadata"]["name"]);
        (
            word(&event["type"]),
            if bookmark == "true" {
                "end".to_owned()
            } else {
                name
            },
        )
    };
    text.lines().map(event).collect()
}

fn watches_end_and_begin_as_asked(cluster: &Cluster) {
    let added = |name: &str| ("ADDED".to_owned(), name.to_owned());
    for one in [
        "/api/v1/watch/namespaces/default/configmaps/c?timeoutSeconds=1".to_owned(),
        format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Dc&timeoutSeconds=1"),
    ] {
        assert_eq!(events(cluster, &one), [added("c")], "{one}");
    }
    let begins = "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                  &allowWatchBookmarks=true&fieldSelector=metadata.name%3Dc";
    let seen = events(cluster, &format!("{MAPS}?{begins}"));
    let (first, rest) = seen.split_first().expect("events");
    assert_eq!(first, &added("c"));
    assert_eq!(
        rest.first(),
        Some(&("BOOKMARK".to_owned(), "end".to_owned())),
        "{seen:?}"
    );
    let revision = get(cluster, MAPS)["metadata"]["resourceVersion"].clone();
    let from_now = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={}",
        revision.as_str().unwrap()
    );
    assert_eq!(events(cluster, &from_now), []);
    let forbidden = format!("{MAPS}?watch=1&sendInitialEvents=true");
    let words = ["sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"];
    cluster
        .call(&As::Admin, "GET", &forbidden, "", "")
        .is(422, "Invalid", &words);
}

fn forms_are_negotiated(cluster: &Cluster) {
    // Indented for curl.
    let accepted = |accept: &str, path: &str| {
        let accept = format!("Accept: {accept}");
        let said = cluster.curled(&["-w", "\n%{http_code}", "-H", &accept], path);
        said.replace("\": ", "\":")
    };
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    assert_has(&accepted(table, MAPS), &["\"kind\":\"Table\"", "\n200"]);
    assert_has(
        &accepted(table, &format!("{MAPS}/a")),
        &["\"kind\":\"Table\"", "\n200"],
    );
    let older = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    assert_has(
        &accepted(older, MAPS),
        &["\"apiVersion\":\"meta.k8s.io/v1beta1\"", "\n200"],
    );
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    assert_has(
        &accepted(partial, MAPS),
        &["\"kind\":\"PartialObjectMetadataList\"", "\n200"],
    );
    assert_has(
        &accepted("text/plain", MAPS),
        &["\"reason\":\"NotAcceptable\"", "\n406"],
    );
    assert_has(
        &accepted(table, &format!("{MAPS}/none")),
        &["\"kind\":\"Status\"", "\n404"],
    );
}

fn requests_that_make_no_sense_are_refused(cluster: &Cluster) {
    let send = |method: &str, path: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "application/json" };
        cluster.call(&As::Admin, method, path, kind, body)
    };
    let not_allowed = ["the server does not allow this method on the requested resource"];
    for (method, path, body) in [
        ("DELETE", "/api/v1/configmaps", ""),
        ("POST", "/api/v1/configmaps", r#"{"metadata":{"name":"x"}}"#),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps/x",
            r#"{"metadata":{"name":"x"}}"#,
        ),
        ("PUT", MAPS, r#"{"metadata":{"name":"x"}}"#),
    ] {
        send(method, path, body).is(405, "MethodNotAllowed", &not_allowed);
    }
    let named = "the name of the object (b) does not match the name on the URL (a)";
    send("PUT", &format!("{MAPS}/a"), r#"{"metadata":{"name":"b"}}"#).is(400, "BadRequest", &[named]);
    let both = r#"{"orphanDependents":true,"propagationPolicy":"Orphan"}"#;
    let why = "orphanDependents and deletionPropagation cannot be both set";
    send("DELETE", &format!("{MAPS}/a"), both).is(422, "Invalid", &[why]);
    let selector = format!("{MAPS}?labelSelector=a%20b");
    let refused = send("GET", &selector, "");
    assert_eq!(
        refused.message(),
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
    let trial = send(
        "DELETE",
        &format!("{MAPS}?labelSelector=page%3Dyes&dryRun=All"),
        "",
    );
    assert_eq!((trial.code, names(&trial.body).len()), (200, 6));
    let gone = send("DELETE", &format!("{MAPS}?labelSelector=page%3Dyes&limit=2"), "");
    assert_eq!(names(&gone.body), ["a", "b"]);
    assert_eq!(
        names(&get(cluster, &format!("{MAPS}?labelSelector=page%3Dyes"))),
        ["c", "e", "f", "g"]
    );
}

#[test]
fn namespaces_end_pods_first() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        cluster.ok(&["create", "namespace", "ending"]);
        eventually("the default account", || {
            cluster.try_ok(&["get", "serviceaccount", "default", "-n", "ending"])
        });
        cluster.ok(&["create", "configmap", "late", "-n", "ending"]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "held", "namespace": "ending", "finalizers": ["example.com/held"]},
            "spec": {"containers": [{"name": "a", "image": "local/none:1"}]}});
        cluster.apply(&pod.to_string());
        cluster.ok(&["delete", "namespace", "ending", "--wait=false"]);
        let message = |kind: &str| {
            let path = format!("{{.status.conditions[?(@.type==\"{kind}\")].message}}");
            cluster.field("namespace/ending", &path)
        };
        eventually("what is left", || {
            has(
                &message("NamespaceContentRemaining")?,
                &["Some resources are remaining: pods. has 1 resource instances"],
            )
        });
        assert_eq!(
            message("NamespaceFinalizersRemaining").unwrap(),
            "Some content in the namespace has finalizers remaining: example.com/held in 1 resource instances"
        );
        cluster.ok(&["get", "configmap", "late", "-n", "ending"]);
        let refused = cluster.refused(&["create", "configmap", "new", "-n", "ending"]);
        assert_has(&refused, &["because it is being terminated"]);
        cluster.ok(&[
            "patch",
            "pod",
            "held",
            "-n",
            "ending",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ]);
        eventually("the end of the namespace", || {
            match cluster.try_ok(&["get", "namespace", "ending"]) {
                Err(why) => has(&why, &["NotFound"]),
                Ok(there) => Err(there),
            }
        });
    });
}
