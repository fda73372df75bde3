//! Encryption at rest: what lies in the data folder, keys that change while the server runs, and a server whose key is
//! gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Cluster, assert_has, eventually, has, sandboxed, tools};

/// What must be found nowhere.
pub const PASSWORD: &str = "correct-horse-battery-staple";
const TREASURE: &str = "under-the-third-palm-tree";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn key(name: &str) -> String {
    // Any bytes will do, as long as each name has its own.
    let bytes: Vec<u8> = name.bytes().cycle().take(32).collect();
    format!("{{name: {name}, secret: {}}}", STANDARD.encode(bytes))
}

/// Says with which providers secrets are kept.
pub fn configure(file: &Path, providers: &[&str]) {
    let providers = providers.join("}, {");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{{providers}}}]\n"
    );
    fs::write(file, text).expect("the configuration");
}

fn gcm(name: &str) -> String {
    format!("aesgcm: {{keys: [{}]}}", key(name))
}

/// The files below a folder that hold some text.
pub fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

/// A server that keeps secrets by that file.
pub fn start(dir: &Path, file: &Path) -> Cluster {
    let file = file.to_str().expect("a path");
    Cluster::start_as(
        "server",
        dir.join("data"),
        &["--encryption-provider-config", file],
    )
}

/// Makes a secret that holds the password.
pub fn make(cluster: &Cluster, name: &str) {
    let value = format!("--from-literal=password={PASSWORD}");
    cluster.ok(&["create", "secret", "generic", name, &value]);
}

/// Reads it.
pub fn reads(cluster: &Cluster, name: &str) {
    let path = "jsonpath={.data.password}";
    let encoded = cluster.ok(&["get", "secret", name, "-o", path]);
    assert_eq!(STANDARD.decode(encoded).expect("base64"), PASSWORD.as_bytes());
}

#[test]
fn the_data_folder_holds_no_secret() {
    sandboxed(|dir| {
        let file = dir.join("encryption.yaml");
        configure(&file, &[&gcm("one")]);
        let text = fs::read_to_string(&file).expect("the configuration");
        fs::write(&file, text.replace("[secrets]", "[secrets, charts.acme.com]")).expect("the configuration");
        let mut cluster = start(dir, &file);
        make(&cluster, "login");
        chart(&cluster);
        reads(&cluster, "login");
        // It is the secret that is not found, not the looking that finds nothing.
        cluster.ok(&[
            "create",
            "configmap",
            "open",
            &format!("--from-literal=a={PASSWORD}-in-the-open"),
        ]);
        assert_has(
            &cluster.post(SECRETS, "{}").body.to_string(),
            &["name or generateName is required"],
        );
        let backup = dir.join("backup");
        let made = Command::new(tools::coracle())
            .args(["backup", backup.to_str().expect("a path"), "--data-dir"])
            .arg(dir.join("data"))
            .output()
            .expect("coracle");
        assert!(made.status.success(), "{made:?}");
        cluster.stop();
        let encoded = STANDARD.encode(PASSWORD);
        for text in [encoded.as_str(), &encoded[..24], TREASURE] {
            assert_eq!(holding(&dir.join("data"), text), Vec::<PathBuf>::new());
            assert!(
                !fs::read(&backup)
                    .expect("the backup")
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            );
        }
        assert!(!holding(&dir.join("data"), &format!("{PASSWORD}-in-the-open")).is_empty());
        cluster.relaunch();
        eventually("the server", || cluster.try_ok(&["get", "secret", "login"]));
        reads(&cluster, "login");
        assert_eq!(
            cluster.field("chart/island", "{.spec.treasure}").unwrap(),
            TREASURE
        );
    });
}

/// A custom object, of a kind that is sealed too.
fn chart(cluster: &Cluster) {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "charts.acme.com"}, "spec": {"group": "acme.com", "scope": "Namespaced",
            "names": {"plural": "charts", "singular": "chart", "kind": "Chart"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    cluster.apply(&definition.to_string());
    let chart = json!({"apiVersion": "acme.com/v1", "kind": "Chart", "metadata": {"name": "island"},
        "spec": {"treasure": TREASURE}});
    eventually("the kind", || {
        cluster.feed(&["create", "-f", "-"], &chart.to_string())
    });
    assert_eq!(
        cluster.field("chart/island", "{.spec.treasure}").unwrap(),
        TREASURE
    );
}

#[test]
fn keys_change_while_the_server_runs() {
    sandboxed(|dir| {
        let file = dir.join("encryption.yaml");
        configure(&file, &["identity: {}"]);
        let cluster = start(dir, &file);
        make(&cluster, "plain");
        let data = dir.join("data");
        let (one, two) = (format!("secretbox: {{keys: [{}]}}", key("one")), gcm("two"));
        // Plain text is read on, and what is written is sealed with the new first key.
        let steps = [
            ("secretbox:one", [&one, "identity: {}"]),
            ("aesgcm:two", [&two, &one]),
        ];
        for (step, (wanted, providers)) in steps.into_iter().enumerate() {
            let old = ["identity: {}"];
            configure(&file, &[&providers[..], &old[..step]].concat());
            eventually("a secret under the new key", || {
                let name = format!("probe-{step}");
                let _ = cluster.try_ok(&["delete", "secret", &name]);
                make(&cluster, &name);
                match holding(&data.join("raft"), wanted).is_empty() {
                    true => Err(format!("nothing is sealed with {wanted} yet")),
                    false => Ok(()),
                }
            });
            reads(&cluster, "plain");
        }
        // Writing everything anew, as Kubernetes' documentation has it, leaves nothing under old keys.
        let all = cluster.ok(&["get", "secrets", "-o", "json"]);
        cluster.feed(&["replace", "-f", "-"], &all).expect("replaced");
        configure(&file, &[&two]);
        eventually("the old key to be forgotten", || {
            let log = cluster.log();
            match log.matches("a configuration was read anew").count() {
                3 => Ok(()),
                n => Err(format!("read {n} times")),
            }
        });
        for name in ["plain", "probe-0", "probe-1"] {
            reads(&cluster, name);
        }
        // A key that is gone is named, and the rest goes on.
        configure(&file, &[&gcm("lost")]);
        eventually("a refusal", || {
            match cluster.try_ok(&["get", "secret", "plain"]) {
                Ok(said) => Err(said),
                Err(why) => has(&why, &["encrypted with aesgcm:two", "name it there again"]),
            }
        });
        cluster.ok(&["get", "configmaps"]);
    });
}
