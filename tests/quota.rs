//! A store that has reached its quota: writes that grow are refused with the way
//! out, deletions are taken, and then there is room again.

use std::process::Command;

use crate::support::rest::{Answer, As};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed, tools};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn body(name: &str, bytes: usize) -> String {
    let value = "x".repeat(bytes);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"v":"{value}"}}}}"#
    )
}

fn delete(cluster: &Cluster, name: &str) -> Answer {
    let path = format!("{CONFIG_MAPS}/{name}");
    cluster.call(&As::Admin, "DELETE", &path, "application/json", "")
}

#[test]
fn a_full_store_refuses_growth_and_takes_deletions() {
    sandboxed(|dir| {
        let quota = ["--quota-bytes", "12582912", "--compaction-interval", "5"];
        let cluster = Cluster::start(dir, &quota);
        let mut made = Vec::new();
        let refusal = eventually("a refusal", || {
            let name = format!("fill-{}", made.len());
            match cluster.post(CONFIG_MAPS, &body(&name, 200_000)) {
                answer if answer.code == 201 => {
                    made.push(name);
                    Err("taken".into())
                }
                answer => Ok(answer),
            }
        });
        refusal.is(
            507,
            "InsufficientStorage",
            &["the store is full", "quota-bytes", "delete"],
        );
        let data = dir.join("data");
        let status = Command::new(tools::coracle())
            .args(["status", "--data-dir", data.to_str().expect("a path")])
            .output()
            .expect("coracle");
        assert_has(&String::from_utf8_lossy(&status.stdout), &["store full"]);
        // What does not grow is taken, and everything is served.
        let path = format!("{CONFIG_MAPS}/{}", made[0]);
        let smaller = cluster.call(&As::Admin, "PUT", &path, "application/json", &body(&made[0], 10));
        assert_eq!(smaller.code, 200, "{}", smaller.body);
        cluster.ok(&["get", "configmaps", "-o", "name"]);
        for name in &made {
            assert_eq!(delete(&cluster, name).code, 200, "{name}");
        }
        // Their history goes first.
        eventually("room again", || {
            match cluster.post(CONFIG_MAPS, &body("after", 200_000)) {
                answer if answer.code == 201 => Ok(()),
                answer => Err(answer.body.to_string()),
            }
        });
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        for name in [
            "coracle_store_log_sync_duration_seconds_bucket",
            "coracle_store_log_written_bytes_total",
            "coracle_store_state_written_bytes",
            "coracle_store_state_size_bytes",
            "coracle_store_quota_bytes 12582912",
            "coracle_store_full 0",
            "coracle_store_suspended 0",
            "coracle_store_snapshots_installed_total",
        ] {
            has(&metrics, &[name]).unwrap();
        }
    });
}
