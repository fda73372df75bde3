//! A lost machine: its pods leave the Services, are replaced in time, and nothing that must be one is
//! ever two when it comes back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::cluster::curl;
use crate::support::hosts::{Host, Hosts, Place};
use crate::support::manifests::{idle_pod, wasm_web};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const READY: &str = "{.status.conditions[?(@.type==\"Ready\")].status}";
const STARTED: &str = "{.status.containerStatuses[0].state.running.startedAt}";

/// Long enough for a heartbeat every ten seconds, short enough for a test.
const GRACE: [&str; 6] = [
    "--node-monitor-grace-period=15",
    "--default-not-ready-toleration-seconds=5",
    "--default-unreachable-toleration-seconds=5",
    "--node-name",
    "first",
    "--log=info",
];

/// Two nodes: `first`, with the control plane, and `edge`.
fn two_nodes(dir: &Path) -> (Hosts, Arc<Host>, Cluster, Cluster) {
    let hosts = Hosts::start(dir);
    let edge = hosts.add("edge", Place::Lan);
    let server = Cluster::start_on(&hosts.first(), "up", &GRACE);
    server.busybox();
    server.guests();
    let token = server.dir.join("agent-token").display().to_string();
    let url = format!("https://{}:6443", hosts.first().ip);
    let agent = Cluster::start_on(&edge, "agent", &["--server", &url, "--token-file", &token]);
    agent.busybox();
    agent.guests();
    for node in ["node/first", "node/edge"] {
        server.until(node, READY, "True");
    }
    (hosts, edge, server, agent)
}

/// A busybox pod on `edge`, which it never leaves if `forever`.
fn on_edge(name: &str, forever: bool) -> String {
    let tolerations = "tolerations: [{operator: Exists}]\n  ";
    let spec = format!(
        "spec:\n  nodeName: edge\n  {}",
        if forever { tolerations } else { "" }
    );
    idle_pod(name).replace("spec:\n  ", &spec)
}

fn spread(name: &str, replicas: u32) -> String {
    let spread = format!(
        "spec:\n      topologySpreadConstraints:\n      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
         whenUnsatisfiable: ScheduleAnyway, labelSelector: {{matchLabels: {{app: {name}}}}}}}\n      containers:"
    );
    wasm_web(name, replicas, false).replace("spec:\n      containers:", &spread)
}

/// The nodes on which the pods of a selector are, sorted.
fn nodes_of(server: &Cluster, selector: &str) -> Vec<String> {
    let path = "jsonpath={.items[*].spec.nodeName}";
    let text = server.ok(&["get", "pods", "-l", selector, "-o", path]);
    let mut nodes: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[test]
fn a_lost_node_is_taken_out_of_service_and_its_pods_are_replaced() {
    sandboxed(|dir| {
        let (_hosts, edge, server, _agent) = two_nodes(dir);
        server.apply(&spread("web", 4));
        server.apply(&on_edge("stays", true));
        server.apply(&on_edge("goes", false));
        server.deployed("web", 4);
        server.pod_ready("stays");
        server.pod_ready("goes");
        assert_eq!(nodes_of(&server, "app=web"), ["edge", "edge", "first", "first"]);
        let started = server.field("pod/stays", STARTED).unwrap();
        let url = format!("http://{}/", server.cluster_ip("web"));
        eventually("answers", || server.curl(&url));

        edge.cut();
        server.until("node/edge", READY, "Unknown");
        let detected = Instant::now();
        let lost = server.ok(&["get", "node", "edge", "-o", "yaml"]);
        assert_has(
            &lost,
            &["NodeStatusUnknown", "Kubelet stopped posting node status."],
        );
        out_of_service(&server, "web");
        let mut good = 0;
        while good < 40 {
            match curl(&["--max-time", "1", &url]) {
                Ok(_) => good += 1,
                Err(why) => {
                    assert!(
                        detected.elapsed() < Duration::from_secs(5),
                        "still refused: {why}"
                    );
                    good = 0;
                }
            }
        }
        eventually("the taints", || {
            let taints = server.field("node/edge", "{range .spec.taints[*]}{.key}:{.effect} {end}")?;
            let key = "node.kubernetes.io/unreachable";
            has(
                &taints,
                &[&format!("{key}:NoSchedule"), &format!("{key}:NoExecute")],
            )
        });

        // Replaced where there is a node; what is on the lost one stays an object until it confirms.
        eventually("four pods that serve", || {
            let ready = server.field("deployment/web", "{.status.availableReplicas}")?;
            if ready == "4" { Ok(()) } else { Err(ready) }
        });
        eventually("the eviction", || {
            match server
                .field("pod/goes", "{.metadata.deletionTimestamp}")?
                .as_str()
            {
                "" => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        assert_has(
            &server.ok(&["get", "pod", "goes", "-o", "yaml"]),
            &["DeletionByTaintManager"],
        );
        assert_eq!(
            server
                .field("pod/stays", "{.metadata.deletionTimestamp}")
                .unwrap(),
            ""
        );
        std::thread::sleep(Duration::from_secs(3));
        server.ok(&["get", "pod", "goes"]);

        // Back: what was deleted ends there, what was not goes on as it was.
        edge.mend();
        server.until("node/edge", READY, "True");
        eventually("the end of what was evicted", || {
            match server.try_ok(&["get", "pod", "goes"]) {
                Err(why) if why.contains("not found") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        eventually("only the pods that are meant", || {
            match nodes_of(&server, "app=web").len() {
                4 => Ok(()),
                many => Err(many.to_string()),
            }
        });
        server.pod_ready("stays");
        assert_eq!(server.field("pod/stays", STARTED).unwrap(), started);
        assert_eq!(server.field("node/edge", "{.spec.taints}").unwrap(), "");
    });
}

/// Waits until no ready endpoint of a Service is on `edge`.
fn out_of_service(server: &Cluster, name: &str) {
    let selector = format!("kubernetes.io/service-name={name}");
    let path = "jsonpath={range .items[*].endpoints[*]}{.nodeName}={.conditions.ready} {end}";
    eventually("endpoints without the lost node", || {
        let text = server.try_ok(&["get", "endpointslices", "-l", &selector, "-o", path])?;
        if text.contains("edge=true") || !text.contains("first=true") {
            return Err(text);
        }
        Ok(())
    });
}

#[test]
fn pods_of_a_dead_node_can_be_forced_away_and_go_with_it() {
    sandboxed(|dir| {
        let (_hosts, edge, server, mut agent) = two_nodes(dir);
        for name in ["forced", "orphan"] {
            server.apply(&on_edge(name, true));
            server.pod_ready(name);
        }
        // The machine is gone as by a power cut.
        edge.power_off();
        agent.kill();
        server.until("node/edge", READY, "Unknown");
        server.ok(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
        assert_has(&server.refused(&["get", "pod", "forced"]), &["not found"]);
        server.ok(&["get", "pod", "orphan"]);
        server.ok(&["delete", "node", "edge"]);
        eventually("the orphan's end", || {
            match server.try_ok(&["get", "pod", "orphan"]) {
                Err(why) if why.contains("not found") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });

        // The machine comes back, registers anew, and runs nothing of what was deleted.
        edge.power_on();
        agent.restart();
        server.until("node/edge", READY, "True");
        eventually("an empty node", || {
            let pods = server.try_ok(&["get", "--raw", "/api/v1/nodes/edge/proxy/pods"])?;
            if pods.contains("orphan") || pods.contains("forced") {
                Err(pods)
            } else {
                Ok(())
            }
        });
    });
}

#[test]
fn nothing_is_evicted_when_every_node_is_lost() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let edge = hosts.add("edge", Place::Lan);
        let server = Cluster::start_on(&hosts.first(), "server", &GRACE);
        let token = server.dir.join("agent-token").display().to_string();
        let url = format!("https://{}:6443", hosts.first().ip);
        let mut agent = Cluster::start_on(&edge, "agent", &["--server", &url, "--token-file", &token]);
        agent.busybox();
        server.until("node/edge", READY, "True");
        server.apply(&on_edge("box", false));
        server.pod_ready("box");
        agent.kill();
        server.until("node/edge", READY, "Unknown");
        server.until("pod/box", READY, "False");
        // Twice what it tolerates.
        std::thread::sleep(Duration::from_secs(10));
        assert_eq!(
            server.field("node/edge", "{.spec.taints[*].effect}").unwrap(),
            "NoSchedule"
        );
        assert_eq!(
            server.field("pod/box", "{.metadata.deletionTimestamp}").unwrap(),
            ""
        );
        agent.restart();
        server.pod_ready("box");
        assert_eq!(
            server
                .field("pod/box", "{.status.containerStatuses[0].restartCount}")
                .unwrap(),
            "0"
        );
    });
}

#[test]
fn a_node_is_drained_as_far_as_budgets_allow() {
    sandboxed(|dir| {
        let (_hosts, _edge, server, _agent) = two_nodes(dir);
        server.apply(&spread("web", 4));
        server.deployed("web", 4);
        server.ok(&[
            "create",
            "poddisruptionbudget",
            "web",
            "--selector=app=web",
            "--min-available=4",
        ]);
        let budget = "pdb/web";
        server.until(
            budget,
            "{.status.disruptionsAllowed} {.status.currentHealthy} {.status.expectedPods}",
            "0 4 4",
        );
        server.until(budget, "{.status.conditions[0].reason}", "InsufficientPods");

        assert_has(
            &evict(&server).unwrap_err(),
            &["Cannot evict pod as it would violate the pod's disruption budget."],
        );
        let drain = ["drain", "edge", "--ignore-daemonsets", "--delete-emptydir-data"];
        let short = [&drain[..], &["--timeout=3s"]].concat();
        assert_has(
            &server.run_both(&short),
            &["Cannot evict pod", "global timeout reached"],
        );
        assert_has(&server.ok(&["get", "nodes"]), &["SchedulingDisabled"]);

        // One at a time, each replaced elsewhere before the next may go.
        server.ok(&[
            "patch",
            budget,
            "--type=merge",
            "-p",
            r#"{"spec":{"minAvailable":3}}"#,
        ]);
        server.until(budget, "{.status.disruptionsAllowed}", "1");
        let before = server.pods("app=web");
        let rehearsed = server.ok(&[&drain[..], &["--dry-run=server"]].concat());
        assert_has(&rehearsed, &["evicting pod default/web-", "(server dry run)"]);
        assert_eq!(server.pods("app=web"), before);
        assert_eq!(server.field(budget, "{.status.disruptionsAllowed}").unwrap(), "1");
        let drained = server.ok(&[&drain[..], &["--timeout=80s"]].concat());
        assert_has(&drained, &["evicted", "node/edge drained"]);
        server.deployed("web", 4);
        assert_eq!(nodes_of(&server, "app=web"), ["first"; 4]);
        server.ok(&["uncordon", "edge"]);
        server.until("node/edge", "{.spec.taints}{.spec.unschedulable}", "");

        // Two budgets over one pod are a mistake that is told.
        server.ok(&[
            "create",
            "poddisruptionbudget",
            "twice",
            "--selector=app=web",
            "--max-unavailable=1",
        ]);
        let refused = eventually("the refusal", || match evict(&server) {
            Err(why) if why.contains("more than one") => Ok(why),
            other => Err(format!("{other:?}")),
        });
        assert_has(&refused, &["more than one PodDisruptionBudget"]);
    });
}

/// Asks for the eviction of one pod of `web`.
fn evict(server: &Cluster) -> Result<String, String> {
    let pod = server.pods("app=web").pop_first().expect("a pod");
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    let body = format!(r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}"}}}}"#);
    server.feed(&["create", "--raw", &path, "-f", "-"], &body)
}

#[test]
fn a_deleted_node_whose_agent_lives_comes_back_with_its_pods() {
    sandboxed(|dir| {
        let (_hosts, _edge, server, _agent) = two_nodes(dir);
        server.apply(&on_edge("box", false));
        server.pod_ready("box");
        let (started, uid) = (
            server.field("pod/box", STARTED),
            server.field("node/edge", "{.metadata.uid}"),
        );
        server.ok(&["delete", "node", "edge"]);
        eventually("a new Node", || {
            let found = server.field("node/edge", "{.metadata.uid}")?;
            if found == uid.clone()? { Err(found) } else { Ok(()) }
        });
        server.until("node/edge", READY, "True");
        // Longer than the patience with pods whose node is missing.
        std::thread::sleep(Duration::from_secs(45));
        assert_eq!(server.field("pod/box", STARTED), started);
        assert_eq!(
            server.field("pod/box", "{.metadata.deletionTimestamp}").unwrap(),
            ""
        );
        assert_eq!(server.exec("box", &["echo", "here"]).unwrap(), "here\n");
    });
}
