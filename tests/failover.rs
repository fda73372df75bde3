//! Servers come and go while clients write and watch: what was acknowledged stays, and no watch loses or
//! repeats anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::request::{EventKind, Options, Verb};
use api::status::Status;
use client::{Api, HttpApi};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::hosts::Place;
use crate::support::manifests::BUSYBOX;
use crate::support::maps::{self, request, revision};
use crate::support::servers::Servers;
use crate::support::{Cluster, eventually, sandboxed};

const WRITERS: usize = 4;
/// Longest time without a write while one server of three is lost.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Clients at work, and what they were told.
pub struct Work {
    stop: AtomicBool,
    /// The writers have stopped: nothing more is acknowledged.
    written: AtomicBool,
    /// Revisions of acknowledged writes, by the object's name.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    count: AtomicUsize,
}

/// A client that begins at one server and knows them all.
fn client(servers: &Servers, first: usize) -> HttpApi {
    let all: Vec<usize> = (0..servers.all.len()).collect();
    maps::client(servers, first, &all)
}

impl Work {
    fn acknowledged(&self) -> BTreeMap<String, u64> {
        self.acknowledged.lock().expect("no writer panics").clone()
    }

    /// Makes one object after the other. One whose making was not answered may be there or not; it is made
    /// again until it certainly is.
    async fn write(self: Arc<Self>, api: HttpApi, writer: usize) {
        for number in 0.. {
            let name = format!("w{writer}-{number}");
            let mut create = request(Verb::Create, "");
            create.body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#).into();
            let mut doubtful = false;
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                match api.call(create.clone()).await {
                    Ok(reply) => {
                        let object: Value = serde_json::from_slice(&reply.body.whole()).expect("an object");
                        let known = self
                            .acknowledged
                            .lock()
                            .expect("no writer panics")
                            .insert(name, revision(&object));
                        assert_eq!(known, None, "made twice");
                        self.count.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(status) if status.is_already_exists() => {
                        assert!(doubtful, "{name} is there before it was made");
                        break;
                    }
                    Err(_) => {
                        doubtful = true;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
    }

    /// Watches from a revision, at whichever server answers; what was told, by revision.
    async fn watch(self: Arc<Self>, api: HttpApi, from: u64) -> BTreeMap<u64, String> {
        let mut told = BTreeMap::new();
        let mut at = from;
        while !self.seen_all(&told) {
            let mut watch = request(Verb::Watch, "");
            watch.options = Options {
                resource_version: Some(at.to_string()),
                ..Options::default()
            };
            match api.watch(watch).await {
                Ok(events) => self.take(events, &mut at, &mut told).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        told
    }

    async fn take(
        &self,
        mut events: api::request::EventStream,
        at: &mut u64,
        told: &mut BTreeMap<u64, String>,
    ) {
        while !self.seen_all(told) {
            // A watch on which nothing happens any more is looked at again.
            let next = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
            let event = match next {
                Err(_) => continue,
                Ok(None | Some(Err(Status { code: 500.., .. }))) => return,
                Ok(Some(event)) => event.expect("an event"),
            };
            assert_eq!(event.kind, EventKind::Added);
            let object: Value = serde_json::from_slice(&event.object).expect("an object");
            let revision = revision(&object);
            assert!(revision > *at, "{revision} after {at}: out of order, or repeated");
            *at = revision;
            told.insert(
                revision,
                object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            );
        }
    }

    /// Whether the writers have stopped and all that was acknowledged was told.
    fn seen_all(&self, told: &BTreeMap<u64, String>) -> bool {
        self.written.load(Ordering::Relaxed)
            && self
                .acknowledged()
                .values()
                .all(|revision| told.contains_key(revision))
    }

    /// Waits until more is written; how long that took.
    pub fn goes_on(&self, what: &str) -> Duration {
        let (began, before) = (Instant::now(), self.count.load(Ordering::Relaxed));
        // Those on their way when it happened do not count.
        let wanted = before + 2 * WRITERS;
        while self.count.load(Ordering::Relaxed) < wanted {
            assert!(began.elapsed() < PAUSE_MAX, "{what}: no writes for {PAUSE_MAX:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        eprintln!("{what}: writes went on after {:?}", began.elapsed());
        began.elapsed()
    }
}

pub struct Clients {
    pub work: Arc<Work>,
    runtime: tokio::runtime::Runtime,
    watches: Vec<JoinHandle<BTreeMap<u64, String>>>,
    writers: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Writers and a watch at each server.
    pub fn start(servers: &Servers) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let work = Arc::new(Work {
            stop: AtomicBool::new(false),
            written: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let listed = runtime
            .block_on(client(servers, 0).call(request(Verb::List, "")))
            .expect("a list");
        let from = revision(&serde_json::from_slice(&listed.body.whole()).expect("a list"));
        let watch = |at| runtime.spawn(work.clone().watch(client(servers, at), from));
        let watches = (0..servers.all.len()).map(watch).collect();
        let write = |n| runtime.spawn(work.clone().write(client(servers, n % servers.all.len()), n));
        let writers = (0..WRITERS).map(write).collect();
        let clients = Self {
            work,
            watches,
            writers,
            runtime,
        };
        clients.work.goes_on("the beginning");
        clients
    }

    /// A page of the list, and what it says of itself; the first of three, or all that is left after another.
    fn page(&self, servers: &Servers, after: &str) -> (Vec<String>, Value) {
        let mut list = request(Verb::List, "");
        list.options.continue_token = after.to_owned();
        list.options.limit = if after.is_empty() { 3 } else { 0 };
        let reply = eventually("a page", || {
            let asked = async { client(servers, 0).call(list.clone()).await };
            self.runtime.block_on(asked).map_err(|status| status.message)
        });
        let page: Value = serde_json::from_slice(&reply.body.whole()).expect("a list");
        let items = page["items"].as_array().into_iter().flatten();
        let names = items.filter_map(|item| item["metadata"]["name"].as_str());
        (names.map(str::to_owned).collect(), page["metadata"].clone())
    }

    /// Ends them, and compares what they were told with what every server shows.
    pub fn end(self, servers: &Servers) {
        self.work.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            self.runtime.block_on(writer).expect("a writer");
        }
        self.work.written.store(true, Ordering::Relaxed);
        let acknowledged = self.work.acknowledged();
        eprintln!("{} writes were acknowledged", acknowledged.len());
        for watch in self.watches {
            let told = async { tokio::time::timeout(Duration::from_secs(60), watch).await };
            let told = self
                .runtime
                .block_on(told)
                .expect("all events in time")
                .expect("a watch");
            for (name, revision) in &acknowledged {
                assert_eq!(told.get(revision), Some(name));
            }
        }
        for server in &servers.all {
            let path = "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}";
            let shown = eventually("a list", || server.try_ok(&["get", "configmaps", "-o", path]));
            let shown: BTreeMap<&str, &str> = shown
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .collect();
            for (name, revision) in &acknowledged {
                assert_eq!(
                    shown.get(name.as_str()),
                    Some(&revision.to_string().as_str()),
                    "{name} is lost"
                );
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed_and_restarted() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        let clients = Clients::start(&servers);
        let (first, begun) = clients.page(&servers, "");
        for round in 0..3 {
            let leader = servers.until_led(round);
            servers.all[leader].kill();
            clients.work.goes_on("the leader was killed");
            servers.all[leader].restart();
            let name = servers.hosts[leader].name.clone();
            servers.until_role(leader, &name, "voter");
        }
        // A list that was begun goes on as it was, whoever leads by now and however much was written.
        let (rest, ended) = clients.page(&servers, begun["continue"].as_str().expect("there is more"));
        assert_eq!(ended["resourceVersion"], begun["resourceVersion"]);
        assert_eq!(begun["remainingItemCount"], rest.len());
        assert!(
            first.len() == 3 && first.last() < rest.first(),
            "{first:?} {rest:?}"
        );
        // Orderly: handed over, stopped and started again, one after the other.
        for at in 0..3 {
            servers.hand_over((at + 1) % 3);
            clients.work.goes_on("leadership was handed over");
            servers.all[at].stop();
            clients.work.goes_on("a server was stopped");
            servers.all[at].restart();
            servers.until_led(at);
        }
        clients.end(&servers);
    });
}

/// `FAILOVER_TRIALS=100` measures; the everyday run only shows that it can be measured.
#[test]
fn writes_pause_shortly_when_leadership_changes() {
    let trials = std::env::var("FAILOVER_TRIALS")
        .ok()
        .and_then(|text| text.parse().ok());
    sandboxed(move |dir| {
        let mut servers = Servers::start(dir, 3);
        let clients = Clients::start(&servers);
        let (mut killed, mut handed_over) = (Vec::new(), Vec::new());
        for _ in 0..trials.unwrap_or(3) {
            let leader = servers.until_led(0);
            servers.all[leader].kill();
            killed.push(clients.work.goes_on("the leader was killed"));
            servers.all[leader].restart();
            servers.until_role(leader, &servers.hosts[leader].name, "voter");
            servers.hand_over((servers.until_led(leader) + 1) % 3);
            handed_over.push(clients.work.goes_on("leadership was handed over"));
        }
        clients.end(&servers);
        eprintln!(
            "{:24} {:>7} {:>9} {:>9} {:>9}",
            "until writes went on", "trials", "p50 ms", "p99 ms", "max ms"
        );
        for (what, mut pauses) in [("leader killed", killed), ("leadership handed over", handed_over)] {
            pauses.sort();
            let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100].as_millis();
            eprintln!(
                "{what:24} {:>7} {:>9} {:>9} {:>9}",
                pauses.len(),
                at(50),
                at(99),
                at(100)
            );
        }
    });
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_serves_nobody() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 3);
        servers.hand_over(1);
        let clients = Clients::start(&servers);
        servers.hosts[1].cut();
        clients.work.goes_on("the leader was cut off");
        let (cert, key) = servers.all[0].admin_files();
        let ask = |args: &[&str]| {
            let mut curl = std::process::Command::new("curl");
            curl.args([
                "-sk",
                "-H",
                "content-type: application/json",
                "--max-time",
                "40",
                "--cert",
            ])
            .arg(&cert)
            .arg("--key")
            .arg(&key);
            curl.args(["https://127.0.0.1:6443/api/v1/namespaces/default/configmaps"])
                .args(args);
            crate::support::said::said(servers.hosts[1].output(&mut curl)).expect("an answer")
        };
        for args in [&["-d", r#"{"metadata":{"name":"lost"}}"#][..], &[]] {
            // It takes a moment until it knows that it does not lead any more.
            eventually("a refusal", || match ask(args) {
                refused if refused.contains("no leader") && refused.contains("503") => Ok(()),
                other => Err(other),
            });
        }
        servers.hosts[1].mend();
        servers.all[0].ok(&["create", "configmap", "mended"]);
        eventually("the server that is back has caught up", || {
            servers.all[1].try_ok(&["get", "configmap", "mended"])
        });
        clients.end(&servers);
        servers.all[1].refused(&["get", "configmap", "lost"]);
    });
}

/// Replicas of the Deployment that rolls.
const REPLICAS: u32 = 4;

fn rolling() -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  # So that kubectl sees half of it: without, it may be over within a second.
  minReadySeconds: 1
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {BUSYBOX}
        command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
"#
    )
}

/// A rollout whose controllers lose their leader half-way is finished by the next one: no pod too many, none too few.
#[test]
fn a_rollout_goes_on_when_the_leader_is_killed() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        let edge = servers.net.add("edge", Place::Lan);
        let token = servers.all[0].dir.join("agent-token").display().to_string();
        let url = servers.url(0);
        let agent = Cluster::start_on(&edge, "agent", &["--server", &url, "--token-file", &token]);
        agent.busybox();
        servers.all[1].ready();
        servers.all[1].apply(&rolling());
        servers.all[1].deployed("web", REPLICAS);
        for round in 1..=2u32 {
            let leader = servers.until_led(0);
            let via = (leader + 1) % servers.all.len();
            let api = &servers.all[via];
            api.ok(&["set", "env", "deployment/web", &format!("ROUND={round}")]);
            eventually("half of a rollout", || {
                let updated = api.field("deployment/web", "{.status.updatedReplicas}")?;
                match updated.parse() {
                    Ok(1..REPLICAS) => Ok(()),
                    _ => Err(format!("{updated:?} are updated")),
                }
            });
            servers.all[leader].kill();
            let api = &servers.all[via];
            // Of the new revision and available, and no other one left.
            api.deployed("web", REPLICAS);
            let sets = r#"jsonpath={range .items[*]}{.spec.replicas}/{.status.replicas} {end}"#;
            let sets = api.ok(&["get", "replicasets", "-o", sets]);
            let mut sets: Vec<&str> = sets.split_whitespace().collect();
            sets.sort_unstable();
            let mut expected = vec!["0/0"; round as usize];
            expected.push("4/4");
            assert_eq!(sets, expected);
            eventually("exactly its pods", || {
                let path = "jsonpath={range .items[*]}{.spec.containers[0].env[0].value} {end}";
                let rounds = api.try_ok(&["get", "pods", "-l", "app=web", "-o", path])?;
                match rounds == format!("{round} ").repeat(REPLICAS as usize) {
                    true => Ok(()),
                    false => Err(format!("their rounds are {rounds}")),
                }
            });
            servers.all[leader].restart();
            servers.until_role(leader, &servers.hosts[leader].name, "voter");
        }
        drop(agent);
    });
}
