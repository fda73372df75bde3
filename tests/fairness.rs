//! Priority and fairness: one greedy client is not everybody's trouble.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Credentials, HttpApi, HttpConfig, Kubeconfig};
use serde_json::{Value, json};

use crate::support::rest::{As, head};
use crate::support::unfinished::Unfinished;
use crate::support::webhook::{Webhook, about_maps};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Connections of the greedy client, each with one list after another.
const GREEDY: usize = 300;
/// What it lists: so many objects of so many bytes.
const OBJECTS: usize = 150;
const OBJECT_BYTES: usize = 4096;

fn metric(cluster: &Cluster, series: &str) -> u64 {
    let text = cluster.ok(&["get", "--raw", "/metrics"]);
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|rest| rest.trim().parse::<f64>().ok())
        .unwrap_or(0.0) as u64
}

#[test]
fn answers_say_which_schema_and_level_they_belong_to() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let levels = eventually("the suggested levels", || {
            let table = cluster.try_ok(&["get", "prioritylevelconfigurations"])?;
            has(&table, &["exempt", "catch-all", "node-high", "workload-low"]).map(|()| table)
        });
        assert_has(&levels, &["NOMINALCONCURRENCYSHARES", "QUEUELENGTHLIMIT"]);
        let schemas = cluster.ok(&["get", "flowschemas"]);
        assert_has(
            &schemas,
            &[
                "MATCHINGPRECEDENCE",
                "MISSINGPL",
                "service-accounts",
                "system-leader-election",
            ],
        );
        let token = cluster.editor("jane");
        let uid = |kind: &str, name: &str| {
            cluster
                .field(&format!("{kind}/{name}"), "{.metadata.uid}")
                .unwrap()
        };
        for (token, schema, level) in [
            (None, "exempt", "exempt"),
            (Some(&*token), "service-accounts", "workload-low"),
        ] {
            let schema = format!("x-kubernetes-pf-flowschema-uid: {}", uid("flowschema", schema));
            let level = uid("prioritylevelconfiguration", level);
            let level = format!("x-kubernetes-pf-prioritylevel-uid: {level}");
            eventually("the headers", || {
                has(&head(&cluster, token, MAPS), &[&schema, &level])
            });
        }
        let dump = cluster.ok(&[
            "get",
            "--raw",
            "/debug/api_priority_and_fairness/dump_priority_levels",
        ]);
        assert_has(
            &dump,
            &[
                "PriorityLevelName, ActiveQueues",
                "\nleader-election, ",
                "\nexempt, ",
            ],
        );
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        assert_has(
            &metrics,
            &[
                "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 245.0",
                "apiserver_flowcontrol_dispatched_requests_total{priority_level=\"exempt\",flow_schema=\"exempt\"}",
                "apiserver_flowcontrol_priority_level_seat_utilization_bucket{le=\"0.5\",phase=\"executing\",\
                 priority_level=\"workload-low\"} ",
                "apiserver_flowcontrol_priority_level_request_utilization_bucket{le=\"0.001\",phase=\"waiting\",\
                 priority_level=\"workload-low\"} ",
                "apiserver_flowcontrol_demand_seats_bucket{le=\"0.2\",priority_level=\"workload-low\"} ",
                "apiserver_flowcontrol_read_vs_write_current_requests_bucket{le=\"0\",phase=\"executing\",\
                 request_kind=\"readOnly\"} ",
                "apiserver_flowcontrol_current_r{priority_level=\"workload-low\"} ",
                "apiserver_flowcontrol_request_execution_seconds_count{priority_level=\"exempt\",\
                 flow_schema=\"exempt\",type=\"regular\"} ",
            ],
        );
        // A schema whose level is not there says so, and its requests go elsewhere.
        cluster.apply(&schema("lost", "nowhere", "jane").to_string());
        cluster.until(
            "flowschema/lost",
            "{.status.conditions[?(@.type==\"Dangling\")].status}",
            "True",
        );
        assert_has(
            &head(&cluster, Some(&token), MAPS),
            &[&uid("flowschema", "service-accounts")],
        );
        // What is mandatory comes back.
        cluster.ok(&["delete", "flowschema", "catch-all"]);
        eventually("catch-all", || {
            cluster.try_ok(&["get", "flowschema", "catch-all"]).map(drop)
        });
    });
}

/// A schema for the requests of one service account.
fn schema(name: &str, level: &str, account: &str) -> Value {
    let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
        "clusterScope": true});
    let subject =
        json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "default", "name": account}});
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name},
        "spec": {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 50,
            "rules": [{"subjects": [subject], "resourceRules": [everything]}]}})
}

/// A level of one seat, that lends and borrows none.
fn narrow(response: &Value) -> String {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "narrow"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "lendablePercent": 0,
            "borrowingLimitPercent": 0, "limitResponse": response}}})
    .to_string()
}

#[test]
fn who_finds_no_seat_is_told_when_to_come_back_or_waits() {
    sandboxed(|dir| {
        let few = [
            "--max-requests-inflight",
            "60",
            "--max-mutating-requests-inflight",
            "40",
        ];
        let cluster = Cluster::start_as("server", dir.join("data"), &few);
        let (bob, jane) = (cluster.editor("bob"), cluster.editor("jane"));
        cluster.apply(&narrow(&json!({"type": "Reject"})));
        cluster.apply(&schema("of-bob", "narrow", "bob").to_string());
        let uid = cluster.field("flowschema/of-bob", "{.metadata.uid}").unwrap();
        eventually("bob's schema", || has(&head(&cluster, Some(&bob), MAPS), &[&uid]));
        let executing = "apiserver_flowcontrol_current_executing_requests{priority_level=\"narrow\",flow_schema=\"of-bob\"}";
        let taken = || match metric(&cluster, executing) {
            1 => Ok(()),
            other => Err(format!("{other} requests")),
        };
        // A body that does not come takes no seat.
        let slow = Unfinished::begin(&cluster, &bob);
        eventually("the body to be awaited", || {
            match metric(&cluster, "coracle_bodies_awaited") {
                1 => Ok(()),
                other => Err(format!("{other} bodies")),
            }
        });
        assert_has(&head(&cluster, Some(&bob), MAPS), &["http/2 200", &uid]);
        assert_eq!(slow.end(), "201");

        let webhook = Webhook::start(dir);
        let only_held = json!({"timeoutSeconds": 30, "matchConditions": [
            {"name": "held", "expression": "object.metadata.name.startsWith('held-')"}]});
        cluster.hook(
            "Validating",
            "hold",
            &about_maps("hold", &webhook.client("/hold"), &only_held),
        );
        std::thread::scope(|scope| {
            let held = || scope.spawn(|| held(&cluster, &bob));
            let first = held();
            eventually("the only seat to be taken", taken);

            let told = head(&cluster, Some(&bob), MAPS);
            assert_has(&told, &["http/2 429", "retry-after: 1", &uid]);
            let refused = cluster.call(&As::Token(&bob), "POST", MAPS, "application/json", "{}");
            refused.is(
                429,
                "TooManyRequests",
                &["Too many requests, please try again later."],
            );
            assert_eq!(cluster.call(&As::Token(&jane), "GET", MAPS, "", "").code, 200);
            let reason = "apiserver_flowcontrol_rejected_requests_total{priority_level=\"narrow\",\
                          flow_schema=\"of-bob\",reason=\"concurrency-limit\"}";
            assert_eq!(metric(&cluster, reason), 2);
            webhook.release();
            assert_eq!(first.join().expect("curl"), 201);
            assert_has(&head(&cluster, Some(&bob), MAPS), &["http/2 200"]);

            // With a queue they wait, until the seat is free.
            let queue = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 1});
            cluster.apply(&narrow(&json!({"type": "Queue", "queuing": queue})));
            webhook.hold();
            let second = held();
            eventually("the only seat to be taken", taken);
            let waiter = scope.spawn(|| cluster.call(&As::Token(&bob), "GET", MAPS, "", ""));
            let waiting = "apiserver_flowcontrol_current_inqueue_requests{priority_level=\"narrow\",flow_schema=\"of-bob\"}";
            eventually("one who waits", || match metric(&cluster, waiting) {
                1 => Ok(()),
                other => Err(format!("{other} wait")),
            });
            assert_has(
                &head(&cluster, Some(&bob), MAPS),
                &["http/2 429", "retry-after: 1"],
            );
            webhook.release();
            assert_eq!(second.join().expect("curl"), 201);
            assert_eq!(waiter.join().expect("curl").code, 200);
        });
        // A watch has its seat only until it has begun.
        let path = format!("{MAPS}?watch=1&resourceVersion=0");
        let mut watches: Vec<Child> = (0..3).map(|_| watch(&cluster, &bob, &path)).collect();
        eventually("three watches", || {
            let text = cluster.ok(&["get", "--raw", "/metrics"]);
            let line = text.lines().find(|line| {
                line.starts_with("apiserver_longrunning_requests{verb=\"WATCH\"")
                    && line.contains("configmaps")
            });
            has(line.unwrap_or_default(), &["} 3"])
        });
        assert_has(&head(&cluster, Some(&bob), MAPS), &["http/2 200"]);
        for child in &mut watches {
            child.kill().expect("curl");
            child.wait().expect("curl");
        }
    });
}

/// Makes a ConfigMap that the webhook holds; the answer's code.
fn held(cluster: &Cluster, token: &str) -> u16 {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "held-"}});
    let (of, body) = (As::Token(token), map.to_string());
    cluster.call(&of, "POST", MAPS, "application/json", &body).code
}

fn watch(cluster: &Cluster, token: &str, path: &str) -> Child {
    Command::new("curl")
        .args([
            "-sS",
            "-k",
            "-N",
            "-o",
            "/dev/null",
            "-H",
            &format!("Authorization: Bearer {token}"),
        ])
        .arg(format!("https://127.0.0.1:{}{path}", cluster.port))
        .stdin(Stdio::null())
        .spawn()
        .expect("curl")
}

fn door(cluster: &Cluster, token: &str) -> HttpApi {
    let kubeconfig = Kubeconfig::read(&cluster.dir.join("admin.kubeconfig")).expect("a kubeconfig");
    let credentials = Credentials {
        token: token.to_owned(),
        ..Credentials::default()
    };
    let config = HttpConfig {
        credentials,
        ..kubeconfig.http_config()
    };
    HttpApi::new(config).expect("a client")
}

/// What a client was told, and how long each answer took.
#[derive(Default)]
struct Heard {
    refused: u64,
    took: Vec<Duration>,
}

impl Heard {
    fn at(&mut self, share: f64) -> Duration {
        self.took.sort();
        self.took[((self.took.len() - 1) as f64 * share) as usize]
    }
}

/// [`nibble`] in a thread of its own: what the elephant's many answers cost this process must not be counted.
fn mouse(cluster: &Cluster, token: &str, time: Duration) -> Heard {
    let api = door(cluster, token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(nibble(&api, time))
}

/// Reads an object once every few milliseconds for a while.
async fn nibble(api: &HttpApi, time: Duration) -> Heard {
    let mut heard = Heard::default();
    let until = Instant::now() + time;
    while Instant::now() < until {
        let began = Instant::now();
        let path = format!("{MAPS}/map-0");
        let answer = api.raw(http::Method::GET, &path, bytes::Bytes::new()).await;
        match answer {
            Ok((200, _)) => heard.took.push(began.elapsed()),
            other => panic!("the mouse was told {:?}", other.map(|(code, _)| code)),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    heard
}

/// Lists everything, again and again, on many connections.
async fn greedy(apis: Vec<HttpApi>, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Heard {
    let clients = apis.into_iter().map(|api| {
        let (stop, answered) = (stop.clone(), answered.clone());
        tokio::spawn(async move {
            let mut heard = Heard::default();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                match api.raw(http::Method::GET, MAPS, bytes::Bytes::new()).await {
                    Ok((200, _)) => heard.took.push(began.elapsed()),
                    Ok((429, _)) => {
                        heard.refused += 1;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => panic!("the greedy one was told {:?}", other.map(|(code, _)| code)),
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            heard
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut all = Heard::default();
    for client in clients {
        let heard = client.await.expect("a client");
        all.refused += heard.refused;
        all.took.extend(heard.took);
    }
    all
}

/// The elephant at work, and the mouse beside it: what each was told.
fn contest(cluster: &Cluster, elephant: &str, small: &str) -> (Heard, Heard) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (stop, answered) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let apis = (0..GREEDY).map(|_| door(cluster, elephant)).collect();
    let herd = runtime.spawn(greedy(apis, Arc::clone(&stop), answered.clone()));
    // Once each connection is there: their handshakes are not what this is about.
    eventually("the whole herd", || match answered.load(Ordering::Relaxed) {
        many if many >= 2 * GREEDY as u64 => Ok(()),
        few => Err(few.to_string()),
    });
    let beside = mouse(cluster, small, Duration::from_secs(8));
    stop.store(true, Ordering::Relaxed);
    (beside, runtime.block_on(herd).expect("the herd"))
}

/// How many times as long as the mouse at its worst the elephant waits. Not as it usually does: what the elephant may
/// take of the processor leaves many seats free, and the mouse is in a queue's way now and then only.
fn advantage(what: &str, (mut beside, mut own): (Heard, Heard)) -> f64 {
    println!(
        "{what}: the mouse: p50 {:?}, p99 {:?} of {}; the elephant: p50 {:?} of {}, {} refused",
        beside.at(0.5),
        beside.at(0.99),
        beside.took.len(),
        own.at(0.5),
        own.took.len(),
        own.refused,
    );
    own.at(0.5).as_secs_f64() / beside.at(0.99).as_secs_f64()
}

#[test]
fn a_greedy_client_is_in_nobodys_way_but_its_own() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ready();
        let (elephant, small) = (cluster.editor("elephant"), cluster.editor("mouse"));
        let text = "x".repeat(OBJECT_BYTES);
        for n in 0..OBJECTS {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{n}")},
                "data": {"a": text}});
            assert_eq!(cluster.post(MAPS, &map.to_string()).code, 201);
        }
        let lease = || {
            cluster.ok(&[
                "get",
                "leases",
                "-n",
                "kube-node-lease",
                "-o",
                "jsonpath={..renewTime}",
            ])
        };
        let mut quiet = mouse(&cluster, &small, Duration::from_secs(3));
        println!(
            "the mouse alone: p50 {:?}, p99 {:?}",
            quiet.at(0.5),
            quiet.at(0.99)
        );
        let usual = advantage("as every cluster is", contest(&cluster, &elephant, &small));
        assert!(usual > 4.0, "the mouse waits like the elephant");
        // The node's heartbeats went on.
        cluster.ready();
        let before = lease();
        eventually("the node's next heartbeat", || match lease() {
            same if same == before => Err(same),
            _ => Ok(()),
        });

        // In a level of few seats the difference is who has queues of one's own.
        let queue = json!({"queues": 64, "handSize": 4, "queueLengthLimit": 100});
        cluster.apply(&narrow(&json!({"type": "Queue", "queuing": queue})));
        let mut both = schema("both", "narrow", "*");
        both["spec"]["distinguisherMethod"] = json!({"type": "ByUser"});
        cluster.apply(&both.to_string());
        let uid = cluster.field("flowschema/both", "{.metadata.uid}").unwrap();
        eventually("the schema", || has(&head(&cluster, Some(&small), MAPS), &[&uid]));
        let apart = advantage("told apart", contest(&cluster, &elephant, &small));
        both["spec"]["distinguisherMethod"] = Value::Null;
        cluster.apply(&both.to_string());
        let together = advantage("as one flow", contest(&cluster, &elephant, &small));
        assert!(
            apart > 3.0 * together,
            "queues of one's own made {together} into {apart}"
        );
    });
}
