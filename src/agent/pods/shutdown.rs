//! The orderly end of a node: pods are told to end, the critical ones after the others.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::spec;
use super::table::PodTable;
use crate::config::ShutdownGrace;
use crate::eviction::rank::is_critical;

/// How long the statuses may take to be written when all containers have ended.
const REPORT_MAX: Duration = Duration::from_secs(3);

/// Pods that end together.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    uids: Vec<String>,
    grace: Duration,
}

/// An order to the pods' manager: end this pod within that time.
#[derive(Debug)]
pub struct Ending {
    /// Which.
    pub uid: String,
    /// What its containers get at most.
    pub grace: Duration,
}

/// Who ends when: the ordinary pods in the time that is not kept for the critical ones, then these.
fn groups(pods: &[Arc<Pod>], grace: ShutdownGrace) -> Vec<Group> {
    let uids = |critical: bool| {
        let some = pods.iter().filter(|pod| is_critical(pod) == critical);
        some.map(|pod| spec::uid(pod).to_owned()).collect::<Vec<_>>()
    };
    let groups = [
        Group {
            uids: uids(false),
            grace: grace.total.saturating_sub(grace.critical),
        },
        Group {
            uids: uids(true),
            grace: grace.critical,
        },
    ];
    groups
        .into_iter()
        .filter(|group| !group.uids.is_empty())
        .collect()
}

/// Ends the node's pods, group by group; returns when all have ended or their time is over.
pub async fn run(table: &PodTable, grace: ShutdownGrace, end: &mpsc::UnboundedSender<Ending>) {
    let pods: Vec<Arc<Pod>> = table.all().into_iter().map(|view| view.pod).collect();
    for group in groups(&pods, grace) {
        for uid in &group.uids {
            let (uid, grace) = (uid.clone(), group.grace);
            let _ = end.send(Ending { uid, grace });
        }
        // A moment more: what is killed at the end of its time must be seen to have ended.
        let waited = tokio::time::timeout(group.grace + REPORT_MAX, ended(table, &group.uids)).await;
        if waited.is_err() {
            tracing::warn!(
                pods = group.uids.len(),
                "some pods did not end in the time of the shutdown"
            );
        }
    }
    if !pods.is_empty() {
        tokio::time::sleep(REPORT_MAX.min(grace.total)).await;
    }
}

/// Waits until none of the pods has a running container.
async fn ended(table: &PodTable, uids: &[String]) {
    loop {
        let views = table.all();
        let runs = views.iter().any(|view| {
            let one_of = uids.iter().any(|uid| uid == spec::uid(&view.pod));
            one_of
                && view
                    .containers
                    .values()
                    .any(|container| container.container_id.is_some())
        });
        if !runs {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn critical_pods_end_last() {
        let pod = |uid: &str, priority: i32| {
            let pod = json!({"metadata": {"name": uid, "uid": uid}, "spec": {"priority": priority, "containers": []}});
            Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
        };
        let grace = ShutdownGrace {
            total: Duration::from_secs(30),
            critical: Duration::from_secs(10),
        };
        let found = groups(&[pod("dns", 2_000_001_000), pod("web", 0), pod("db", 100)], grace);
        let group = |uids: &[&str], seconds| Group {
            uids: uids.iter().map(|uid| (*uid).to_owned()).collect(),
            grace: Duration::from_secs(seconds),
        };
        assert_eq!(found, [group(&["web", "db"], 20), group(&["dns"], 10)]);
        assert_eq!(groups(&[pod("web", 0)], grace), [group(&["web"], 20)]);
    }
}
