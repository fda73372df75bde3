//! Backups of a cluster that works, restored and compared; damaged ones refused.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::rest::As;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

fn coracle(args: &[&str]) -> Output {
    let output = Command::new(tools::coracle()).args(args).output();
    output.expect("coracle")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// What `coracle` says when it refuses.
fn refusal(args: &[&str]) -> String {
    let output = coracle(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?} was not refused: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[track_caller]
fn done(args: &[&str]) -> String {
    let output = coracle(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.ok(&["get", "configmaps,secrets", "-o", "name"]);
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_backup_brings_a_cluster_back() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
        cluster.ok(&["create", "secret", "generic", "hidden", "--from-literal=a=b"]);
        cluster.ok(&["create", "configmap", "gone", "--from-literal=a=b"]);
        cluster.ok(&["delete", "configmap", "gone"]);
        let before = names(&cluster);
        let uid = cluster.field("configmap/kept", "{.metadata.uid}").unwrap();
        let data = dir.join("data");
        let file = dir.join("cluster.backup");
        let told = done(&["backup", text(&file), "--data-dir", text(&data)]);
        assert_has(&told, &["revision", "keys"]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "it holds the cluster's keys");
        assert_has(
            &refusal(&["backup", text(&file), "--data-dir", text(&data)]),
            &["exists already"],
        );
        // Nobody else may have it.
        let other = cluster.call(
            &As::Anonymous,
            "GET",
            "/apis/coracle.dev/v1/backup",
            "application/json",
            "",
        );
        other.is(403, "Forbidden", &["backup"]);
        // Lost with the machine.
        cluster.ok(&["create", "configmap", "later", "--from-literal=a=b"]);
        let late: u64 = cluster
            .field("configmap/later", "{.metadata.resourceVersion}")
            .unwrap()
            .parse()
            .unwrap();
        let said = refusal(&["restore", text(&file), "--data-dir", text(&data)]);
        assert_has(&said, &["is in use by process"]);
        drop(cluster);
        let said = refusal(&["restore", text(&file), "--data-dir", text(&data)]);
        assert_has(&said, &["holds a cluster's state already"]);

        std::fs::rename(&data, dir.join("lost")).unwrap();
        done(&["restore", text(&file), "--data-dir", text(&data)]);
        let cluster = Cluster::start(dir, &[]);
        cluster.ready();
        assert_eq!(names(&cluster), before);
        assert_eq!(cluster.field("configmap/kept", "{.metadata.uid}").unwrap(), uid);
        assert_eq!(cluster.field("configmap/kept", "{.data.a}").unwrap(), "b");
        // The keys are the same, so are all kubeconfigs and tokens.
        for name in ["pki/client-ca.crt", "pki/service-account.key", "agent-token"] {
            let (old, new) = (dir.join("lost").join(name), data.join(name));
            assert_eq!(std::fs::read(old).unwrap(), std::fs::read(new).unwrap(), "{name}");
        }
        // Revisions never come twice, and who followed the lost cluster hears that it must list again.
        cluster.ok(&["create", "configmap", "new", "--from-literal=a=b"]);
        let new: u64 = cluster
            .field("configmap/new", "{.metadata.resourceVersion}")
            .unwrap()
            .parse()
            .unwrap();
        assert!(new > late, "{new} after {late}");
        let path = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={late}");
        let answer = cluster.call(&As::Admin, "GET", &path, "application/json", "");
        assert!(
            answer.code == 410 || answer.body.to_string().contains("410"),
            "{answer:?}"
        );
        drop(cluster);
    });
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
        let file = dir.join("cluster.backup");
        done(&["backup", text(&file), "--data-dir", text(&dir.join("data"))]);
        drop(cluster);
        let whole = std::fs::read(&file).unwrap();
        let target = dir.join("target");
        let middle = whole.len() / 2;
        let mut flipped = whole.clone();
        flipped[middle] ^= 1;
        for (what, bytes, words) in [
            ("cut off", whole[..middle].to_vec(), "it is cut off"),
            ("flipped", flipped, "damaged"),
            ("longer", [whole.clone(), vec![0]].concat(), "follows its end"),
            ("empty", vec![], "it is cut off"),
            (
                "foreign",
                b"PK\x03\x04 something else entirely".to_vec(),
                "not a backup of Coracle",
            ),
        ] {
            let bad = dir.join("bad.backup");
            std::fs::write(&bad, &bytes).unwrap();
            let said = refusal(&["restore", text(&bad), "--data-dir", text(&target)]);
            assert_has(&said, &["bad.backup", words]);
            assert!(!target.exists(), "{what}");
            assert_has(
                &refusal(&["backup", "verify", text(&bad)]),
                &["bad.backup", words],
            );
        }
        assert_has(&done(&["backup", "verify", text(&file)]), &["whole", "revision"]);
        done(&["restore", text(&file), "--data-dir", text(&target)]);
    });
}

/// What one writer was told: the revision of each of its objects, in order.
fn write_until(cluster: &Cluster, writer: usize, stop: &AtomicBool) -> Vec<u64> {
    let mut revisions = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("writer-{writer}-{}", revisions.len());
        let map = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
        let answer = cluster.post("/api/v1/namespaces/default/configmaps", &map);
        assert_eq!(answer.code, 201, "{answer:?}");
        let revision = answer.body["metadata"]["resourceVersion"].as_str();
        revisions.push(revision.and_then(|text| text.parse().ok()).expect("a revision"));
    }
    revisions
}

#[test]
fn a_backup_under_writers_holds_what_was_acknowledged_up_to_one_revision_and_nothing_else() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let (file, stop) = (dir.join("cluster.backup"), AtomicBool::new(false));
        let (told, before, acknowledged) = std::thread::scope(|scope| {
            let (cluster, stop) = (&cluster, &stop);
            let writers: Vec<_> = (0..4)
                .map(|writer| scope.spawn(move || write_until(cluster, writer, stop)))
                .collect();
            let count = |least: usize| {
                eventually("objects", || {
                    let found = cluster.ok(&["get", "configmaps", "-o", "name"]);
                    let found = found.matches("writer-").count();
                    if found >= least {
                        Ok(found)
                    } else {
                        Err(found.to_string())
                    }
                })
            };
            let before = count(20);
            let told = done(&["backup", text(&file), "--data-dir", text(&dir.join("data"))]);
            // Some that are certainly later.
            count(before + 40);
            stop.store(true, Ordering::Relaxed);
            let told_writers: Vec<Vec<u64>> = writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"))
                .collect();
            (told, before, told_writers)
        });
        drop(cluster);
        let verified = done(&["backup", "verify", text(&file)]);
        let revision = |said: &str| -> u64 {
            let (_, after) = said.split_once("revision ").expect("a revision");
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        let until = revision(&told);
        assert_eq!(revision(&verified), until);

        let restored = dir.join("restored");
        done(&["restore", text(&file), "--data-dir", text(&restored)]);
        let cluster = Cluster::start_as("server", restored, &[]);
        let mut found: Vec<String> = names(&cluster)
            .into_iter()
            .filter(|name| name.contains("writer-"))
            .collect();
        found.sort();
        let all = acknowledged.iter().enumerate().flat_map(|(writer, revisions)| {
            let numbered = revisions.iter().enumerate();
            numbered.map(move |(number, at)| (format!("configmap/writer-{writer}-{number}"), *at))
        });
        let all: Vec<(String, u64)> = all.collect();
        let wanted = all
            .iter()
            .filter(|(_, at)| *at <= until)
            .map(|(name, _)| name.clone());
        let mut wanted: Vec<String> = wanted.collect();
        wanted.sort();
        assert!(
            wanted.len() >= before,
            "what was there before it began: {} of {before}",
            wanted.len()
        );
        assert!(wanted.len() < all.len(), "some came later than revision {until}");
        assert_eq!(found, wanted, "as of revision {until}");
    });
}
