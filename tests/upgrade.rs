//! Data folders of earlier builds: every later one must open them, and find all objects, what watches tell of
//! the past, and who is in the group.
//!
//! `tests/folders` has one archive for each release: the folders of three servers, and what was in them.
//! `CORACLE_KEEP_FOLDERS=1 cargo nextest run -E 'test(folders_that_this_build_leaves)'` adds that of this build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::hosts::{Host, Hosts};
use crate::support::servers::Servers;
use crate::support::{eventually, maps, sandboxed};

const FOLDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/folders");
/// Beside the folders in an archive: what must be found in them.
const EXPECTED: &str = "expected.json";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {kept: "yes"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: text, namespace: other, labels: {kept: "yes"}, annotations: {note: "ä 漢 \\\" \n"}}
data: {a: b}
binaryData: {bytes: AAEC/w==}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, labels: {kept: "yes"}}
stringData: {password: "correct horse"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com, labels: {kept: "yes"}}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

const WIDGET: &str = r#"
apiVersion: example.com/v1
kind: Widget
metadata: {name: round, labels: {kept: "yes"}}
spec: {size: 3}
"#;

/// Writes objects of several sorts, with a past, and loses a member; what must be found again.
fn fill(servers: &mut Servers) -> Value {
    let first = &servers.all[0];
    let listed: Value = serde_json::from_str(&first.ok(&["get", "--raw", CONFIGMAPS])).expect("a list");
    let from = maps::revision(&listed).to_string();
    first.apply(OBJECTS);
    first.ok(&["wait", "--for=condition=Established", "crd/widgets.example.com"]);
    first.apply(WIDGET);
    for name in ["changed", "gone"] {
        first.ok(&["create", "configmap", name, "--from-literal=a=b"]);
        first.ok(&["label", "configmap", name, "kept=yes"]);
    }
    first.ok(&[
        "patch",
        "configmap",
        "changed",
        "--type=merge",
        "-p",
        r#"{"data":{"c":"d"}}"#,
    ]);
    first.ok(&["delete", "configmap", "gone"]);
    // From here on the group remembers a member that was removed, and one began with a snapshot.
    servers.all[2].kill();
    servers.replace(2, 0);
    servers.all[2].ok(&["create", "configmap", "last"]);
    servers.all[2].ok(&["label", "configmap", "last", "kept=yes"]);
    json!({
        "from": from,
        "objects": objects(servers, 0),
        "events": events(servers, 0, &from),
        "members": members(servers, 0),
    })
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

/// All objects that were made here, whole.
fn objects(servers: &Servers, at: usize) -> Value {
    let kinds = "namespaces,configmaps,secrets,customresourcedefinitions,widgets.example.com";
    let listed = eventually("the objects", || {
        servers.all[at].try_ok(&["get", kinds, "-A", "-l", "kept=yes", "-o", "json"])
    });
    let listed: Value = serde_json::from_str(&listed).expect("a list");
    listed["items"].clone()
}

/// What a watch of ConfigMaps tells of the past: sort, name and revision of each event.
fn events(servers: &Servers, at: usize, from: &str) -> Vec<Value> {
    let path = format!("{CONFIGMAPS}?watch=1&timeoutSeconds=2&resourceVersion={from}");
    let told = servers.all[at].ok(&["get", "--raw", &path]);
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("an event");
        let meta = &event["object"]["metadata"];
        json!([event["type"], meta["name"], meta["resourceVersion"]])
    };
    told.lines().map(event).collect()
}

fn members(servers: &Servers, at: usize) -> Vec<Value> {
    let members = servers.members(at).expect("members");
    let items = members["items"].as_array().expect("members").iter();
    let known = |member: &Value| json!([member["name"], member["id"], member["address"], member["role"]]);
    items.map(known).collect()
}

/// Fails unless every server shows what was in the folders, and writes go on.
fn check(servers: &Servers, expected: &Value) {
    let from = expected["from"].as_str().expect("a revision");
    servers.until_led(0);
    for at in 0..servers.all.len() {
        assert_eq!(
            members(servers, at),
            *expected["members"].as_array().expect("members")
        );
        assert_eq!(objects(servers, at), expected["objects"], "server {at}");
        assert_eq!(
            events(servers, at, from),
            *expected["events"].as_array().expect("events")
        );
    }
    for at in 0..servers.all.len() {
        servers.all[at].ok(&["create", "configmap", &format!("new-{at}")]);
    }
    servers.all[0].ok(&["get", "widget", "round"]);
}

/// What servers leave when they have ended: what connects their hosts, and these.
type Left = (Hosts, Vec<Arc<Host>>);

fn end(mut servers: Servers) -> Left {
    for server in &mut servers.all {
        server.stop();
    }
    (servers.net, servers.hosts)
}

/// Unpacks an archive in the place of the folders that are there, starts servers in it and looks.
fn open(dir: &Path, (net, hosts): Left, archive: &Path) -> Left {
    for host in &hosts {
        std::fs::remove_dir_all(host.data()).expect("an old folder");
    }
    tar(&["-C", text(dir), "-xzf", text(archive)]);
    let expected = std::fs::read(dir.join(EXPECTED)).expect("what is expected");
    let servers = Servers::resume(net, hosts);
    check(&servers, &serde_json::from_slice(&expected).expect("JSON"));
    end(servers)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

fn tar(args: &[&str]) {
    let status = Command::new("tar").args(args).status().expect("tar");
    assert!(status.success(), "tar {args:?}");
}

#[test]
fn folders_that_this_build_leaves_open_again() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        let expected = fill(&mut servers);
        assert!(
            expected["objects"].as_array().is_some_and(|all| all.len() >= 7),
            "{expected}"
        );
        assert!(
            expected["events"].as_array().is_some_and(|all| all.len() >= 7),
            "{expected}"
        );
        let left = end(servers);
        std::fs::write(dir.join(EXPECTED), expected.to_string()).expect("a file");
        let archive = dir.join("folders.tar.gz");
        let names: Vec<&str> = left.1.iter().map(|host| host.name.as_str()).collect();
        let args = [
            "-C",
            text(dir),
            "--exclude=LOG*",
            "--exclude=lock",
            "-czf",
            text(&archive),
            EXPECTED,
        ];
        tar(&[&args[..], &names].concat());
        if std::env::var_os("CORACLE_KEEP_FOLDERS").is_some() {
            let kept = Path::new(FOLDERS).join(concat!(env!("CARGO_PKG_VERSION"), ".tar.gz"));
            std::fs::create_dir_all(FOLDERS).expect("a folder");
            std::fs::copy(&archive, &kept).expect("a copy");
            eprintln!("kept {}", kept.display());
        }
        open(dir, left, &archive);
    });
}

#[test]
fn folders_of_every_release_open() {
    sandboxed(|dir| {
        let entries = std::fs::read_dir(FOLDERS).expect("archives").flatten();
        let mut archives: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        archives.sort();
        assert!(!archives.is_empty(), "no archive in {FOLDERS}");
        let mut left = end(Servers::start(dir, 3));
        for archive in archives {
            eprintln!("{}", archive.display());
            left = open(dir, left, &archive);
        }
    });
}
