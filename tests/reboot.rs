//! A machine that reboots, and parts of the cluster that die alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::manifests::{idle_pod, oci_web, service, wasm_web};
use crate::support::pod::all_answer;
use crate::support::running::{kill_hard, processes};
use crate::support::sandbox::NODE_IP;
use crate::support::{Cluster, assert_has, eventually, has, reboot, sandboxed};

/// A pod of the hello-http guest that shows what it was given: a ConfigMap as
/// variable and file, a token, a folder in memory.
const WELL_EQUIPPED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: equipped, labels: {app: equipped}}
spec:
  containers:
  - name: main
    image: local/hello-http:1
    ports: [{containerPort: 8080}]
    env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]
    volumeMounts: [{name: settings, mountPath: /settings}, {name: memory, mountPath: /memory}]
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: memory, emptyDir: {medium: Memory}}
"#;

/// Every pod with its address and how often its container was started again.
fn restarts(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let text = cluster.ok(&["get", "pods", "-o", path]);
    let pod = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].to_owned(), (words[1].to_owned(), words[2].to_owned()))
    };
    text.lines().map(pod).collect()
}

/// Every pod's container id and when it was started, as the API shows it.
fn runs(cluster: &Cluster) -> BTreeMap<String, String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].state.running.startedAt}{\"\\n\"}{end}";
    let text = cluster.ok(&["get", "pods", "-o", path]);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, run)| (name.to_owned(), run.to_owned()))
        .collect()
}

/// The same from the node's own files.
fn runs_on_disk(data: &Path) -> BTreeMap<String, String> {
    let folders = std::fs::read_dir(data.join("pods"))
        .into_iter()
        .flatten()
        .flatten();
    let pods = folders.filter_map(|folder| std::fs::read(folder.path().join("pod.json")).ok());
    let pods = pods.filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let run = |pod: Value| {
        let status = &pod["status"]["containerStatuses"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let started = text(&status["state"]["running"]["startedAt"]);
        (
            text(&pod["metadata"]["name"]),
            format!("{} {started}", text(&status["containerID"])),
        )
    };
    pods.map(run).collect()
}

fn named(pods: &BTreeMap<String, (String, String)>, app: &str) -> BTreeSet<String> {
    let prefix = format!("{app}-");
    pods.keys()
        .filter(|name| name.starts_with(&prefix))
        .cloned()
        .collect()
}

/// Each replica of both Deployments answers through its Service.
fn all_serve(pods: &BTreeMap<String, (String, String)>, urls: &BTreeMap<&str, String>) {
    for (app, url) in urls {
        all_answer(&format!("the replicas of {app}"), &named(pods, app), || {
            crate::support::cluster::curl(&["--max-time", "5", url])
        });
    }
}

/// An OCI and a Wasm Deployment with their Services, an OCI pod of nobody, and a Wasm pod that needs much.
fn populate(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    cluster.apply(&wasm_web("wasm", 2, false));
    cluster.apply(&oci_web("oci", 2));
    cluster.apply(&idle_pod("box"));
    cluster.apply(WELL_EQUIPPED);
    cluster.apply(&service("equipped"));
    cluster.deployed("wasm", 2);
    cluster.deployed("oci", 2);
    cluster.pod_ready("box");
    cluster.pod_ready("equipped");
    let url = |app| (app, format!("http://{}/", cluster.cluster_ip(app)));
    BTreeMap::from([url("wasm"), url("oci")])
}

/// The pod that needs much has it all.
fn is_equipped(ip: &str) -> Result<(), String> {
    let get = |path: &str| {
        let url = format!("http://{ip}:8080{path}");
        crate::support::cluster::curl(&["--max-time", "5", &url])
    };
    has(&get("/env/COLOUR")?, &["blue"])?;
    has(&get("/file?path=/settings/colour")?, &["blue"])?;
    let token = get("/file?path=/var/run/secrets/kubernetes.io/serviceaccount/token")?;
    has(&token, &["."])
}

/// Asks the cluster's DNS from the machine itself.
fn resolves(name: &str, to: &str) -> Result<(), String> {
    let out = Command::new("/bin/busybox")
        .args(["nslookup", name, "10.43.0.10"])
        .output();
    let out = out.map_err(|error| error.to_string())?;
    has(&String::from_utf8_lossy(&out.stdout), &[to])
}

#[test]
fn a_rebooted_machine_brings_everything_back() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let urls = populate(&cluster);
        let before = restarts(&cluster);
        assert_eq!(before.len(), 6, "{before:?}");
        assert!(before.values().all(|(_, count)| count == "0"), "{before:?}");
        cluster.exec("box", &["sh", "-c", "echo lost > /note"]).unwrap();

        cluster.kill();
        reboot::machine(dir);
        cluster.restart();
        cluster.ready();
        eventually("every pod, started once more under its address", || {
            let found = restarts(&cluster);
            let wanted = before
                .iter()
                .map(|(name, (ip, _))| (name.clone(), (ip.clone(), "1".to_owned())));
            if found == wanted.collect() {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
        cluster.deployed("wasm", 2);
        cluster.deployed("oci", 2);
        all_serve(&before, &urls);
        eventually("what the pod was given", || is_equipped(&before["equipped"].0));
        let memory = cluster.exec("box", &["cat", "/note"]);
        assert!(
            memory.is_err(),
            "a new container does not have the old one's files: {memory:?}"
        );
        // How the run before ended nobody saw.
        let last = cluster.field(
            "pod/box",
            "{.status.containerStatuses[0].lastState.terminated.exitCode}",
        );
        assert_eq!(last.unwrap(), "137");
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert_has(&mounts, &["empty-dir/memory tmpfs"]);
        let settled = restarts(&cluster);
        assert!(settled.values().all(|(_, count)| count == "1"), "{settled:?}");
        cluster.ok(&["scale", "deployment", "oci", "--replicas=3"]);
        cluster.deployed("oci", 3);
    });
}

/// A server and an agent as two processes.
fn pair(dir: &Path) -> (Cluster, Cluster) {
    let server = Cluster::start_as("server", dir.join("server"), &[]);
    let url = format!("https://{NODE_IP}:6443");
    let token = server.dir.join("agent-token");
    let token = token.to_str().unwrap();
    let args = [
        "--server",
        &url,
        "--token-file",
        token,
        "--node-name",
        "edge",
        "--crash-back-off",
        "1",
    ];
    let agent = Cluster::start_as("agent", dir.join("agent"), &args);
    agent.busybox();
    agent.guests();
    server.ready();
    (server, agent)
}

#[test]
fn a_machine_that_reboots_without_its_server_serves() {
    sandboxed(|dir| {
        let (mut server, mut agent) = pair(dir);
        let urls = populate(&server);
        let before = restarts(&server);
        eventually("the node's copy of the endpoints", || {
            let file = agent.dir.join("kept/endpointslices.json");
            let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
            let ips: Vec<&str> = before
                .iter()
                .filter(|(name, _)| *name != "box")
                .map(|(_, (ip, _))| ip.as_str())
                .collect();
            let not_ready = text.contains("\"ready\":false");
            has(&text, &ips).and_then(|()| if not_ready { Err(text.clone()) } else { Ok(()) })
        });

        server.kill();
        agent.kill();
        reboot::machine(dir);
        agent.restart();
        all_serve(&before, &urls);
        eventually("what the pod was given", || is_equipped(&before["equipped"].0));
        let address = urls["oci"]
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        eventually("DNS", || resolves("oci.default.svc.cluster.local", &address));
        let offline = eventually("all runs on disk", || {
            let runs = runs_on_disk(&agent.dir);
            if runs.len() == before.len() && runs.values().all(|run| !run.ends_with(' ')) {
                Ok(runs)
            } else {
                Err(format!("{runs:?}"))
            }
        });

        // The server comes back and finds all as it is.
        server.restart();
        server.ready();
        eventually("the server's view of the runs", || {
            let seen = runs(&server);
            if seen == offline {
                Ok(())
            } else {
                Err(format!("{seen:?}, not {offline:?}"))
            }
        });
        server.deployed("wasm", 2);
        server.deployed("oci", 2);
        let after = restarts(&server);
        assert!(after.values().all(|(_, count)| count == "1"), "{after:?}");
        assert_eq!(
            after.keys().collect::<Vec<_>>(),
            before.keys().collect::<Vec<_>>()
        );
        all_serve(&before, &urls);
        eventually("the link", || server.exec("box", &["true"]));
        server.ok(&["scale", "deployment", "wasm", "--replicas=3"]);
        server.deployed("wasm", 3);
        assert!(
            runs(&server)
                .iter()
                .all(|(name, run)| offline.get(name).is_none_or(|old| old == run))
        );
    });
}

#[test]
fn server_and_agent_die_alone() {
    sandboxed(|dir| {
        let (mut server, mut agent) = pair(dir);
        let urls = populate(&server);
        let before = restarts(&server);
        let begun = runs(&server);

        // Without the server the node goes on as before, names included.
        server.kill();
        all_serve(&before, &urls);
        let address = urls["wasm"]
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        eventually("DNS", || resolves("wasm.default.svc.cluster.local", &address));
        server.restart();
        server.ready();
        eventually("the link", || server.exec("box", &["true"]));
        assert_eq!(runs(&server), begun, "nothing was started again");

        // Without the agent its containers go on, and their Service with them.
        agent.kill();
        let only_oci = BTreeMap::from([("oci", urls["oci"].clone())]);
        all_serve(&before, &only_oci);
        agent.restart();
        eventually("the link", || server.exec("box", &["true"]));
        all_serve(&before, &urls);
        eventually("the runs as they were, but for the guests'", || {
            let now = runs(&server);
            let is_oci = |name: &str| name == "box" || name.starts_with("oci-");
            let same = begun
                .iter()
                .all(|(name, run)| (now.get(name) == Some(run)) == is_oci(name));
            if same {
                Ok(())
            } else {
                Err(format!("{now:?}, before: {begun:?}"))
            }
        });
        eventually("guests counted as started again once", || {
            let counts = restarts(&server);
            let wanted = |name: &str| {
                if name == "box" || name.starts_with("oci-") {
                    "0"
                } else {
                    "1"
                }
            };
            if counts.iter().all(|(name, (_, count))| count == wanted(name)) {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        });
        server.deployed("wasm", 2);
        server.deployed("oci", 2);
    });
}

/// kill -9 for the shim of a pod.
fn end_shim(uid: &str) {
    let shims = processes(&[" shim ", uid]);
    assert_eq!(shims.len(), 1, "{shims:?}");
    kill_hard(shims[0]);
}

#[test]
fn a_killed_shim_costs_its_pod_one_restart() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.apply(&oci_web("web", 2));
        cluster.deployed("web", 2);
        let pods: Vec<String> = cluster.pods("app=web").into_iter().collect();
        let url = format!("http://{}/", cluster.cluster_ip("web"));
        let untouched = runs(&cluster)[&pods[1]].clone();
        let uid = cluster
            .field(&format!("pod/{}", pods[0]), "{.metadata.uid}")
            .unwrap();
        let ip = cluster.pod_ip(&pods[0]);
        end_shim(&uid);
        let back = |cluster: &Cluster, count: &str| {
            let restarts = "{.status.containerStatuses[0].restartCount}";
            cluster.until(&format!("pod/{}", pods[0]), restarts, count);
            cluster.deployed("web", 2);
            eventually("one process each", || {
                let servers = processes(&["httpd -f -p 8080"]);
                if servers.len() == 2 {
                    Ok(())
                } else {
                    Err(format!("{servers:?}"))
                }
            });
            assert_eq!(cluster.pod_ip(&pods[0]), ip);
            all_answer("both replicas", &pods.iter().cloned().collect(), || {
                crate::support::cluster::curl(&["--max-time", "5", &url])
            });
            cluster.exec(&pods[0], &["true"]).unwrap();
            assert_eq!(runs(cluster)[&pods[1]], untouched);
        };
        back(&cluster, "1");
        // The same while the node's process is away.
        cluster.kill();
        end_shim(&uid);
        cluster.restart();
        back(&cluster, "2");
    });
}
