//! The commands that people type, with the oldest and the newest kubectl.

use crate::support::tools::oldest_and_newest;
use crate::support::{Cluster, sandboxed};

#[test]
fn objects_are_created_read_changed_and_deleted() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        cluster.ready();
        for (minor, kubectl) in oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            cluster.ok(&["create", "configmap", "words", "--from-literal=a=1"]);
            assert_eq!(cluster.field("configmap/words", "{.data.a}").unwrap(), "1");
            cluster.ok(&["patch", "configmap", "words", "-p", r#"{"data":{"b":"2"}}"#]);
            cluster.ok(&["label", "configmap", "words", "colour=red"]);
            let table = cluster.ok(&["get", "configmaps", "-l", "colour=red"]);
            assert!(table.contains("words") && table.contains("DATA"), "{table}");
            cluster.ok(&["delete", "configmap", "words"]);
            let gone = cluster.refused(&["get", "configmap", "words"]);
            assert!(gone.contains(r#"configmaps "words" not found"#), "{gone}");
        }
    });
}
