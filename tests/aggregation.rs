//! Servers that extend the API: reached by their Service, with the user's name, and shown as if they were one.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Instant;

use serde_json::json;

use crate::support::extension::{Extension, api_service, service, slice};
use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::{Cluster, PATIENCE, assert_has, eventually, has, sandboxed};

const BOATS: &str = "/apis/boats.example.com/v1/namespaces/default/boats";

/// Waits until the condition `Available` has this status, reason and message.
fn condition(cluster: &Cluster, words: &[&str]) {
    eventually("the condition", || {
        let path =
            r#"{range .status.conditions[?(@.type=="Available")]}{.status} {.reason}: {.message}{end}"#;
        has(&cluster.field("apiservice/v1.boats.example.com", path)?, words)
    });
}

fn boat(name: &str) -> String {
    json!({"apiVersion": "boats.example.com/v1", "kind": "Boat", "metadata": {"name": name}, "crew": 3})
        .to_string()
}

#[test]
fn a_server_extends_the_api() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        why_it_cannot_be_reached(&cluster);
        a_namespace_waits_for_it(&cluster);
        let extension = Extension::start(dir, &cluster);
        let trusted = json!({"caBundle": extension.bundle()});
        condition(
            &cluster,
            &[
                "False FailedDiscoveryCheck",
                "certificate signed by unknown authority",
            ],
        );
        cluster.apply(&api_service(&trusted));
        condition(&cluster, &["True Passed: all checks passed"]);
        it_is_shown(&cluster);
        it_is_used(&cluster);
        its_objects_go_with_their_namespace(&cluster);
        it_is_told_who_asks(&cluster);
        cluster.echoes(&format!("{BOATS}/coracle/echo"));
        by_another_name(&cluster);

        cluster.ok(&["delete", "apiservice", "v1.boats.example.com"]);
        eventually("its end", || {
            match cluster.call(&As::Admin, "GET", BOATS, "", "").code {
                404 => Ok(()),
                code => Err(code.to_string()),
            }
        });
        assert!(!cluster.ok(&["api-versions"]).contains("boats.example.com"));
    });
}

#[test]
fn one_that_never_answers_delays_nobody_else() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let extension = Extension::start(dir, &cluster);
        cluster.apply(&service());
        cluster.apply(&slice());
        cluster.apply(&api_service(&json!({"caBundle": extension.bundle()})));
        condition(&cluster, &["True Passed: all checks passed"]);
        cluster.feed(&["create", "-f", "-"], &boat("coracle")).unwrap();

        // Nothing is known of it yet: who asks for its objects waits as long as they are ready to.
        extension.freeze();
        let path = format!("{BOATS}?timeout=2s");
        let late = cluster.call(&As::Admin, "GET", &path, "", "");
        late.is(
            504,
            "Timeout",
            &["Timeout: request did not complete within the allotted timeout"],
        );
        // Nobody else waits for it, neither now nor once it is known.
        let others = || {
            let began = Instant::now();
            for path in [
                "/api",
                "/apis",
                "/openapi/v3",
                "/openapi/v2",
                "/api/v1/namespaces",
            ] {
                let answer = cluster.call(&As::Admin, "GET", path, "", "");
                assert_eq!(answer.code, 200, "{path}: {answer:?}");
            }
            assert!(cluster.ok(&["get", "namespaces"]).contains("default"));
            began.elapsed()
        };
        let took = others();
        assert!(took < PATIENCE / 3, "{took:?}");
        condition(
            &cluster,
            &[
                "False FailedDiscoveryCheck: failing or missing response from https://10.43.",
                "context deadline exceeded",
            ],
        );
        let away = cluster.call(&As::Admin, "GET", BOATS, "", "");
        assert_eq!(away.code, 503, "{away:?}");
        others();

        extension.thaw();
        condition(&cluster, &["True Passed: all checks passed"]);
        eventually("its objects", || {
            has(&cluster.try_ok(&["get", "boats"])?, &["coracle"])
        });
    });
}

fn why_it_cannot_be_reached(cluster: &Cluster) {
    cluster.apply(&api_service(&json!({})));
    condition(
        cluster,
        &["False ServiceNotFound: service/boats in \"default\" is not present"],
    );
    assert_has(
        &cluster.ok(&["get", "apiservice", "v1.boats.example.com"]),
        &["default/boats", "False (ServiceNotFound)"],
    );
    let away = cluster.call(&As::Admin, "GET", BOATS, "", "");
    assert_eq!(away.code, 503, "{away:?}");
    assert_has(
        &cluster.refused(&["get", "--raw", BOATS]),
        &["the server is currently unable to handle the request"],
    );
    // What does not answer keeps nothing else from being shown.
    assert_has(&cluster.run_both(&["api-resources"]), &["configmaps"]);
    cluster.apply(&service());
    let lost = "False EndpointsNotFound: cannot find endpointslices for service/boats in \"default\"";
    condition(cluster, &[lost]);
    cluster.apply(&slice());
    condition(
        cluster,
        &["False FailedDiscoveryCheck: failing or missing response from https://10.43."],
    );
    condition(
        cluster,
        &[
            ":443/apis/boats.example.com/v1: Get ",
            "connect: connection refused",
        ],
    );
}

/// Nobody knows what is in a namespace as long as a group cannot be asked.
fn a_namespace_waits_for_it(cluster: &Cluster) {
    cluster.ok(&["create", "namespace", "waiting"]);
    cluster.ok(&["delete", "namespace", "waiting", "--wait=false"]);
    eventually("what the namespace waits for", || {
        let path = r#"{range .status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")]}{.status} {.reason}: {.message}{end}"#;
        let expected = "True DiscoveryFailed: Discovery failed for some groups, 1 failing: unable to retrieve the complete list \
                        of server APIs: boats.example.com/v1: stale GroupVersion discovery: boats.example.com/v1";
        has(&cluster.field("namespace/waiting", path)?, &[expected])
    });
}

fn its_objects_go_with_their_namespace(cluster: &Cluster) {
    eventually("the end of what waited", || {
        match cluster.try_ok(&["get", "namespace", "waiting"]) {
            Err(why) => has(&why, &["not found"]),
            Ok(found) => Err(found),
        }
    });
    cluster.ok(&["create", "namespace", "harbour"]);
    let create = ["create", "-n", "harbour", "-f", "-"];
    cluster.feed(&create, &boat("dinghy")).unwrap();
    assert_has(&cluster.ok(&["get", "boats", "-A"]), &["dinghy"]);
    cluster.ok(&["delete", "namespace", "harbour"]);
    assert!(!cluster.ok(&["get", "boats", "-A"]).contains("dinghy"));
}

fn it_is_shown(cluster: &Cluster) {
    eventually("its resources", || {
        has(
            &cluster.try_ok(&["api-resources"])?,
            &["boats ", "boats.example.com/v1"],
        )
    });
    assert_has(&cluster.ok(&["api-versions"]), &["boats.example.com/v1"]);
    let group = cluster.call(&As::Admin, "GET", "/apis/boats.example.com", "", "");
    assert_eq!(group.body["preferredVersion"]["version"], "v1", "{group:?}");
    let list = cluster.call(&As::Admin, "GET", "/apis/boats.example.com/v1", "", "");
    assert_eq!(list.body["resources"][0]["name"], "boats", "{list:?}");
    let v2 = cluster.call(&As::Admin, "GET", "/openapi/v2", "", "");
    assert_eq!(
        v2.body["definitions"]["com.example.boats.v1.Boat"]["properties"]["crew"]["type"],
        "integer"
    );
    let v3 = cluster.call(&As::Admin, "GET", "/openapi/v3/apis/boats.example.com/v1", "", "");
    assert_eq!(v3.body["info"]["title"], "Boats", "{v3:?}");
    for (minor, kubectl) in crate::support::tools::oldest_and_newest() {
        let mut explain = std::process::Command::new(kubectl);
        let out = cluster
            .dress(explain.args(["explain", "boats.crew"]))
            .output()
            .unwrap();
        let said = crate::support::said::said(out).unwrap_or_else(|why| panic!("kubectl 1.{minor}: {why}"));
        assert_has(&said, &["How many row."]);
    }
}

fn it_is_used(cluster: &Cluster) {
    cluster.feed(&["create", "-f", "-"], &boat("coracle")).unwrap();
    assert_has(&cluster.ok(&["get", "boats"]), &["coracle"]);
    assert_has(
        &cluster
            .feed(&["create", "-f", "-"], &boat("coracle"))
            .unwrap_err(),
        &["there is such a boat"],
    );
    let mut watch = Running(cluster.stream(&format!("{BOATS}?watch=true")));
    let mut lines = BufReader::new(out(&mut watch.0)).lines();
    let mut next = || lines.next().expect("an event").expect("a line");
    assert_has(&next(), &["ADDED", "coracle"]);
    cluster.feed(&["create", "-f", "-"], &boat("punt")).unwrap();
    assert_has(&next(), &["ADDED", "punt"]);
    cluster.ok(&["delete", "boat", "punt", "--wait=false"]);
    assert_has(&next(), &["DELETED", "punt"]);
    let late = cluster.refused(&["get", "--raw", &format!("{BOATS}/hang?timeout=2s")]);
    assert_has(&late, &["request did not complete within the allotted timeout"]);
}

fn out(child: &mut Child) -> std::process::ChildStdout {
    child.stdout.take().expect("its output")
}

fn it_is_told_who_asks(cluster: &Cluster) {
    let jane = ["--as=jane", "--as-group=rowers", "--as-uid=u-1"];
    // To check it, kubectl would have to see definitions, which she may not.
    let create = ["create", "--validate=false", "-f", "-", jane[0], jane[1], jane[2]];
    let refused = cluster.feed(&create, &boat("ark")).unwrap_err();
    assert_has(
        &refused,
        &[r#"User "jane" cannot create resource "boats" in API group "boats.example.com""#],
    );
    cluster.ok(&[
        "create",
        "role",
        "rower",
        "--verb=create,get",
        "--resource=boats.boats.example.com",
    ]);
    cluster.ok(&["create", "rolebinding", "rower", "--role=rower", "--group=rowers"]);
    eventually("the right to build", || cluster.feed(&create, &boat("ark")));
    let ark = cluster.call(&As::Admin, "GET", &format!("{BOATS}/ark"), "", "");
    let builder = &ark.body["builder"];
    assert_eq!(
        (&builder["x-remote-user"], &builder["x-remote-uid"]),
        (&json!("jane"), &json!("u-1")),
        "{builder}"
    );
    assert_eq!(builder["x-remote-group"], "rowers,system:authenticated");
    assert!(builder["authorization"].is_null(), "{builder}");
    // Nobody says in headers of their own who they are, and nobody's token goes on.
    let token = cluster.ok(&["create", "token", "default"]);
    cluster.ok(&[
        "create",
        "rolebinding",
        "self",
        "--role=rower",
        "--serviceaccount=default:default",
    ]);
    let me = As::Token(token.trim());
    let name = "raft";
    eventually("the right to build", || {
        let answer = cluster.call(&me, "POST", BOATS, "application/json", &boat(name));
        if answer.code == 201 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    let raft = cluster.call(&As::Admin, "GET", &format!("{BOATS}/{name}"), "", "");
    let builder = &raft.body["builder"];
    assert_eq!(builder["x-remote-user"], "system:serviceaccount:default:default");
    assert!(builder["authorization"].is_null(), "{builder}");
}

/// A Service that is a name for a host, or for another Service.
fn by_another_name(cluster: &Cluster) {
    let named = |to: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": to}})
        .to_string()
    };
    cluster.apply(&named("localhost"));
    let service = json!({"namespace": "default", "name": "alias", "port": 8443});
    cluster.apply(&api_service(
        &json!({"service": service, "insecureSkipTLSVerify": true}),
    ));
    condition(cluster, &["True Passed"]);
    eventually("the boats", || {
        has(&cluster.try_ok(&["get", "boats"])?, &["coracle"])
    });
    cluster.apply(&named("boats.default.svc.cluster.local"));
    let service = json!({"namespace": "default", "name": "alias", "port": 443});
    cluster.apply(&api_service(
        &json!({"service": service, "insecureSkipTLSVerify": true}),
    ));
    condition(cluster, &["True Passed"]);
    eventually("the boats", || {
        has(&cluster.try_ok(&["get", "boats"])?, &["coracle"])
    });
}
