//! Clients that others wrote, in their own languages: Kubernetes' for Python and for JavaScript, and kube-rs.
//!
//! The programs are in `tests/clients/` and `tests/operator/`; `tools/setup` installs what the former are made with,
//! `tools/run-tests` builds the latter.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::tools::{self, Language};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

/// What a story prints at the end of each chapter.
fn chapters(said: &str) -> Vec<&str> {
    said.lines()
        .filter_map(|line| line.strip_prefix("done: "))
        .collect()
}

/// Runs a program that tells its story, to its end.
fn tell(cluster: &Cluster, language: Language, program: &str, expected: &[&str]) {
    let Some(mut command) = language.program(program) else {
        return;
    };
    let out = cluster.dress(&mut command).output().expect("the client");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let why = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{why}\n{}", cluster.log());
    assert_eq!(chapters(&said), expected);
}

#[test]
fn the_python_client_tells_its_story() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let expected = [
            "discovery",
            "objects",
            "lists",
            "watches",
            "workloads",
            "shells",
            "custom",
            "access",
        ];
        tell(&cluster, Language::Python, "story.py", &expected);
    });
}

#[test]
fn the_javascript_client_tells_its_story() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let expected = [
            "objects",
            "lists",
            "applying",
            "workloads",
            "shells",
            "customs",
            "watches",
        ];
        tell(&cluster, Language::JavaScript, "story.mjs", &expected);
    });
}

/// A client that goes on running.
fn start(cluster: &Cluster, command: &mut Command) -> Running {
    let command = cluster.dress(command).stdin(Stdio::null());
    Running(command.spawn().expect("the client"))
}

fn signal(client: &Running, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(client.0.id()).expect("a pid"));
    kill(pid, signal).expect("a signal");
}

/// kube-rs as an ordinary program.
fn operator(cluster: &Cluster) -> Running {
    let log = std::fs::File::create(cluster.home().join("operator.log")).expect("a log");
    let errors = log.try_clone().expect("a log");
    let running = start(
        cluster,
        Command::new(tools::operator()).stdout(log).stderr(errors),
    );
    eventually("the operator is ready", || {
        let said = std::fs::read_to_string(cluster.home().join("operator.log")).unwrap_or_default();
        has(&said, &["ready"])
    });
    running
}

fn greeting(name: &str, text: &str, times: u32) -> String {
    format!(
        "apiVersion: example.coracle.dev/v1\nkind: Greeting\nmetadata: {{name: {name}}}\n\
         spec: {{text: {text}, times: {times}}}\n"
    )
}

fn text_is(cluster: &Cluster, map: &str, text: &str) {
    eventually(map, || {
        let found = cluster.field(&format!("configmap/{map}"), "{.data.text}")?;
        if found == text { Ok(()) } else { Err(found) }
    });
}

#[test]
fn an_operator_runs_as_an_ordinary_program() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let _operator = operator(&cluster);
        let invalid = cluster
            .feed(&["apply", "-f", "-"], &greeting("none", "x", 0))
            .unwrap_err();
        assert_has(
            &invalid,
            &["spec.times: Invalid value: 0: spec.times in body should be greater than or equal to 1"],
        );
        cluster.apply(&greeting("hello", "Hello", 2));
        text_is(&cluster, "hello", "Hello Hello");
        eventually("a status", || {
            let said = cluster.field("greeting/hello", "{.status.said} {.status.observed_generation}")?;
            if said == "2 1" { Ok(()) } else { Err(said) }
        });
        assert_has(&cluster.ok(&["get", "gr"]), &["SAID", "hello", "2"]);
        // What somebody changes is put right: the operator owns it, and hears of it.
        cluster.ok(&[
            "patch",
            "configmap",
            "hello",
            "-p",
            r#"{"data": {"text": "Bye"}}"#,
        ]);
        text_is(&cluster, "hello", "Hello Hello");
        cluster.ok(&[
            "patch",
            "greeting",
            "hello",
            "--type=merge",
            "-p",
            r#"{"spec": {"times": 3}}"#,
        ]);
        text_is(&cluster, "hello", "Hello Hello Hello");
        cluster.ok(&["delete", "greeting", "hello"]);
        text_is(&cluster, "hello-said", "Farewell");
        eventually("what it owned is collected", || {
            match cluster.try_ok(&["get", "configmap", "hello"]) {
                Ok(_) => Err("still there".to_owned()),
                Err(why) => has(&why, &["not found"]),
            }
        });
    });
}

/// Waits until an informer's file says what is there.
fn believes(file: &Path, expected: &[&str]) {
    eventually(&format!("an informer knows {expected:?}"), || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let known: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("kube-root-ca"))
            .collect();
        if known == expected { Ok(()) } else { Err(text) }
    });
}

/// Waits until a watch from that revision is refused: it is compacted away.
fn forgotten(cluster: &Cluster, revision: &str) {
    let path = format!("/api/v1/configmaps?watch=true&timeoutSeconds=1&resourceVersion={revision}");
    eventually("compaction", || {
        // Something must happen for there to be something to forget.
        cluster.ok(&[
            "annotate",
            "namespace",
            "default",
            "--overwrite",
            &format!("at={:?}", std::time::SystemTime::now()),
        ]);
        let answer = cluster.call(&As::Admin, "GET", &path, "", "");
        let said = answer.body.to_string();
        has(&said, &["\"type\":\"ERROR\"", "too old resource version"]).map_err(|_| said)
    });
}

/// The same after the operator had to list anew, while the greeting is touched. kube-rs pauses all of a controller's
/// watches when one of them is refused: if that falls between an object and the end of the list that brings it, the
/// object is looked for in a store that does not have it yet, and let be until there is news of it.
fn text_is_at_last(cluster: &Cluster, greeting: &str, text: &str) {
    eventually(greeting, || {
        let found = cluster.field(&format!("configmap/{greeting}"), "{.data.text}");
        if found.as_deref() == Ok(text) {
            return Ok(());
        }
        let touch = format!("touched={:?}", std::time::SystemTime::now());
        cluster.ok(&["annotate", "greeting", greeting, "--overwrite", &touch]);
        Err(format!("{found:?}"))
    });
}

#[test]
fn informers_survive_restarts_and_expiry() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start_as("server", dir.join("data"), &["--compaction-interval=1"]);
        let file: PathBuf = cluster.home().join("informer");
        let informer = Language::JavaScript
            .program("informer.mjs")
            .map(|mut command| start(&cluster, command.arg(&file)));
        let operator = operator(&cluster);
        let informed = |expected: &[&str]| {
            if informer.is_some() {
                believes(&file, expected);
            }
        };
        cluster.ok(&["create", "configmap", "a", "--from-literal=text=1"]);
        informed(&["a=1"]);

        // The server dies and comes back: nothing is lost, nothing is there twice.
        cluster.kill();
        cluster.restart();
        cluster.ok(&["delete", "configmap", "a"]);
        cluster.ok(&["create", "configmap", "b", "--from-literal=text=2"]);
        informed(&["b=2"]);
        cluster.apply(&greeting("one", "Hello", 1));
        text_is_at_last(&cluster, "one", "Hello");
        informed(&["b=2", "one=Hello"]);

        // They sleep while what they know is forgotten, and their connections end.
        let then = cluster
            .field("configmap/one", "{.metadata.resourceVersion}")
            .unwrap();
        let clients: Vec<&Running> = informer.iter().chain([&operator]).collect();
        clients.iter().for_each(|client| signal(client, Signal::SIGSTOP));
        cluster.kill();
        cluster.restart();
        cluster.ok(&["delete", "configmap", "b"]);
        cluster.apply(&greeting("two", "Again", 2));
        forgotten(&cluster, &then);
        clients.iter().for_each(|client| signal(client, Signal::SIGCONT));
        text_is_at_last(&cluster, "two", "Again Again");
        informed(&["one=Hello", "two=Again Again"]);
    });
}

#[test]
fn kubectl_finds_what_every_cluster_has() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start_as("server", dir.join("data"), &[]);
        for (_, kubectl) in tools::oldest_and_newest() {
            cluster.with(&kubectl);
            let services = eventually("every APIService is available", || {
                let table = cluster.try_ok(&["get", "apiservices", "--no-headers"])?;
                let down = table
                    .lines()
                    .find(|line| !line.contains("Local") || !line.contains("True"));
                match down {
                    Some(line) => Err(line.to_owned()),
                    None => has(
                        &table,
                        &["v1.apps", "v2.autoscaling", "v1.flowcontrol.apiserver.k8s.io"],
                    )
                    .map(|()| table),
                }
            });
            assert!(services.starts_with("v1. "), "{services}");
            let levels = cluster.ok(&["get", "prioritylevelconfigurations", "exempt", "workload-low"]);
            assert_has(
                &levels,
                &["TYPE", "NOMINALCONCURRENCYSHARES", "Exempt", "Limited", "100"],
            );
            let schemas = cluster.ok(&["get", "flowschemas", "--no-headers"]);
            assert_eq!(schemas.lines().count(), 13, "{schemas}");
            assert!(schemas.lines().all(|line| line.ends_with("False")), "{schemas}");
            let namespaces = cluster.ok(&["get", "namespaces", "-o", "name"]);
            assert_has(
                &namespaces,
                &["default", "kube-node-lease", "kube-public", "kube-system"],
            );
            let classes = cluster.ok(&["get", "priorityclasses", "--no-headers"]);
            assert_has(
                &classes,
                &[
                    "system-cluster-critical",
                    "2000000000",
                    "system-node-critical",
                    "2000001000",
                ],
            );
            let roles = cluster.ok(&["get", "clusterroles", "-o", "name"]);
            assert_has(
                &roles,
                &[
                    "/admin",
                    "/edit",
                    "/view",
                    "/system:kube-scheduler",
                    "/system:controller:job-controller",
                ],
            );
            let resources = cluster.ok(&["api-resources", "--no-headers"]);
            // The core group first, then the groups by priority.
            let first: Vec<&str> = resources
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .take(3)
                .collect();
            assert_eq!(first, ["bindings", "componentstatuses", "configmaps"]);
            let explained = cluster.ok(&["explain", "deployment.spec.strategy"]);
            assert_has(&explained, &["FIELD", "rollingUpdate", "type"]);
        }
    });
}
