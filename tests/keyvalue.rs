//! `wasi:keyvalue`: buckets in the cluster's store, granted by the manifest and by roles.

use serde_json::json;

use crate::support::{Cluster, eventually, sandboxed};

/// Additions that one program makes.
const TIMES: u32 = 25;

/// A pod of the counting program, as that ServiceAccount.
fn counter(name: &str, granted: &str, account: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {"coracle.dev/keyvalue": granted}},
        "spec": {"restartPolicy": "Never", "serviceAccountName": account,
            "containers": [{"name": "main", "image": "local/counter:1"}]}})
    .to_string()
}

fn hits(cluster: &Cluster) -> u32 {
    let text = cluster
        .field("configmap/counts", "{.data.hits}")
        .expect("the bucket");
    text.parse().unwrap_or(0)
}

#[test]
fn pods_count_together_in_what_they_were_granted() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let text = include_str!("programs/counter.wat").replace("TIMES", &TIMES.to_string());
        cluster.import_text("counter", &text);
        cluster.ok(&["create", "configmap", "counts"]);
        cluster.ok(&["create", "serviceaccount", "teller"]);
        cluster.ok(&[
            "create",
            "role",
            "teller",
            "--verb=get,update",
            "--resource=configmaps",
            "--resource-name=counts",
        ]);
        cluster.ok(&[
            "create",
            "rolebinding",
            "teller",
            "--role=teller",
            "--serviceaccount=default:teller",
        ]);

        // Not without the manifest's word, nor without a role.
        for (name, granted, account) in [
            ("ungranted", "others", "teller"),
            ("unknown", "counts", "default"),
        ] {
            cluster.apply(&counter(name, granted, account));
            assert_eq!(cluster.finished(name), "Failed", "{name}");
        }
        assert_eq!(hits(&cluster), 0);

        // Side by side, and none of them loses what another has added.
        let first = ["a", "b", "c"];
        first
            .iter()
            .for_each(|name| drop(cluster.apply(&counter(name, "others, counts", "teller"))));
        for name in first {
            assert_eq!(cluster.finished(name), "Succeeded", "{name}");
        }
        assert_eq!(hits(&cluster), 3 * TIMES);

        // What was added stays added, whatever dies.
        cluster.apply(&counter("late", "counts", "teller"));
        let seen = eventually("the next begins", || match hits(&cluster) {
            seen if seen > 3 * TIMES => Ok(seen),
            seen => Err(seen.to_string()),
        });
        cluster.kill();
        cluster.restart();
        cluster.ready();
        assert!(hits(&cluster) >= seen);
    });
}
