//! What dashboards, alerts and probes read of a server that has something to do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::rest::As;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// Series that the rules, alerts and dashboards of kubernetes-mixin and kube-prometheus read of an API server, with the
/// labels that they select and sum by.
const READ_BY_RULES: [(&str, &[&str]); 33] = [
    (
        "apiserver_request_total",
        &[
            "verb",
            "resource",
            "code",
            "scope",
            "subresource",
            "group",
            "version",
            "dry_run",
        ],
    ),
    (
        "apiserver_request_duration_seconds_bucket",
        &["verb", "resource", "scope", "le"],
    ),
    (
        "apiserver_request_sli_duration_seconds_bucket",
        &["verb", "resource", "scope", "subresource", "le"],
    ),
    ("apiserver_request_sli_duration_seconds_count", &["verb", "scope"]),
    ("apiserver_response_sizes_bucket", &["verb", "resource", "le"]),
    ("apiserver_current_inflight_requests", &["request_kind"]),
    ("apiserver_longrunning_requests", &["verb", "resource", "scope"]),
    ("apiserver_watch_events_total", &["group", "version", "resource"]),
    ("apiserver_watch_events_sizes_bucket", &["resource", "le"]),
    (
        "apiserver_requested_deprecated_apis",
        &["group", "version", "resource", "removed_release"],
    ),
    ("apiserver_tls_handshake_errors_total", &[]),
    ("apiserver_resource_objects", &["group", "resource"]),
    ("apiserver_storage_objects", &["resource"]),
    ("apiserver_storage_size_bytes", &["storage_cluster_id"]),
    ("apiserver_client_certificate_expiration_seconds_bucket", &["le"]),
    ("apiserver_client_certificate_expiration_seconds_count", &[]),
    (
        "etcd_request_duration_seconds_bucket",
        &["operation", "group", "resource", "le"],
    ),
    ("etcd_requests_total", &["operation", "group", "resource"]),
    ("workqueue_adds_total", &["name"]),
    ("workqueue_depth", &["name"]),
    ("workqueue_queue_duration_seconds_bucket", &["name", "le"]),
    ("workqueue_work_duration_seconds_bucket", &["name", "le"]),
    ("rest_client_requests_total", &["code", "method", "host"]),
    (
        "rest_client_request_duration_seconds_bucket",
        &["verb", "host", "le"],
    ),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_open_fds", &[]),
    ("process_start_time_seconds", &[]),
    ("workqueue_retries_total", &["name"]),
    (
        "apiserver_request_terminations_total",
        &["verb", "code", "component"],
    ),
    ("aggregator_unavailable_apiservice", &["name"]),
    ("aggregator_unavailable_apiservice_total", &["name", "reason"]),
    (
        "kubernetes_build_info",
        &["git_version", "major", "minor", "platform"],
    ),
];

/// What was scraped.
struct Scrape(Vec<(String, BTreeMap<String, String>, f64)>);

impl Scrape {
    /// Reads Prometheus' text format; fails on a line that is none of it.
    fn of(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            series
                .map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}")))
                .collect(),
        )
    }

    /// `sum(name{selectors})`.
    fn sum(&self, name: &str, selectors: &[(&str, &str)]) -> f64 {
        let is = |labels: &BTreeMap<String, String>| {
            selectors
                .iter()
                .all(|(label, value)| labels.get(*label).map(String::as_str) == Some(value))
        };
        let found = self
            .0
            .iter()
            .filter(|(found, labels, _)| found == name && is(labels));
        found.map(|(_, _, value)| value).sum()
    }

    /// Fails unless there is such a series with all these labels.
    fn has(&self, name: &str, labels: &[&str]) {
        let complete =
            |found: &BTreeMap<String, String>| labels.iter().all(|label| found.contains_key(*label));
        let found = self
            .0
            .iter()
            .any(|(found, has, _)| found == name && complete(has));
        assert!(found, "{name} with {labels:?}");
    }

    /// Fails unless the buckets of each histogram grow, up to the number of its values.
    fn histograms_are_whole(&self) {
        let mut grown: BTreeMap<(String, String), f64> = BTreeMap::new();
        for (name, labels, value) in self.0.iter().filter(|(name, ..)| name.ends_with("_bucket")) {
            let mut of = labels.clone();
            let le = of.remove("le").expect("a bound");
            let last = grown.entry((name.clone(), format!("{of:?}"))).or_default();
            assert!(*last <= *value, "{name} {labels:?}");
            *last = *value;
            if le == "+Inf" {
                let selectors: Vec<_> = of
                    .iter()
                    .map(|(label, value)| (label.as_str(), value.as_str()))
                    .collect();
                let count = self.sum(&name.replace("_bucket", "_count"), &selectors);
                assert_eq!(*value, count, "{name} {labels:?}");
            }
        }
        assert!(grown.len() > 50, "{}", grown.len());
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}')?;
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once("=\""));
    let labels: Option<BTreeMap<String, String>> = pairs
        .map(|pair| pair.map(|(label, value)| (label.into(), value.trim_end_matches('"').into())))
        .collect();
    Some((name.to_owned(), labels?, value.parse().ok()?))
}

/// Somebody who reads, writes, watches and errs.
fn traffic(cluster: &Cluster) {
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b", "c"] {
        let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        assert_eq!(cluster.post(maps, &body).code, 201);
        assert_eq!(
            cluster
                .post(
                    &format!("{maps}?dryRun=All"),
                    &format!(r#"{{"metadata":{{"name":"{name}-dry"}}}}"#)
                )
                .code,
            201
        );
    }
    let ask = |method: &str, path: &str, content_type: &str, body: &str| {
        cluster.call(&As::Admin, method, path, content_type, body).code
    };
    assert_eq!(ask("GET", maps, "", ""), 200);
    assert_eq!(ask("GET", "/api/v1/configmaps", "", ""), 200);
    assert_eq!(ask("GET", &format!("{maps}/a"), "", ""), 200);
    assert_eq!(ask("GET", &format!("{maps}/none"), "", ""), 404);
    assert_eq!(ask("GET", "/api/v1/namespaces/default/endpoints", "", ""), 200);
    let named = r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#;
    assert_eq!(ask("PUT", &format!("{maps}/a"), "application/json", named), 200);
    let applied = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"v"}}"#;
    let apply = format!("{maps}/b?fieldManager=me");
    assert_eq!(ask("PATCH", &apply, "application/apply-patch+yaml", applied), 200);
    let events = cluster.curled(&[], &format!("{maps}?watch=1&resourceVersion=0&timeoutSeconds=1"));
    assert_has(&events, &["ADDED"]);
    assert_eq!(ask("DELETE", &format!("{maps}/c"), "", ""), 200);
    cluster.ok(&[
        "create",
        "deployment",
        "idle",
        "--image=example.com/none",
        "--replicas=0",
    ]);
    let available = "{.status.conditions[?(@.type==\"Available\")].status}";
    cluster.until("deployment/idle", available, "True");
}

/// What goes wrong: a request that runs out of time, and a server that extends the API but is not there.
fn trouble(cluster: &Cluster) {
    let body = r#"{"metadata":{"generateName":"late-"}}"#;
    eventually("a request that is given up", || {
        match cluster
            .post("/api/v1/namespaces/default/configmaps?timeout=1ms", body)
            .code
        {
            504 => Ok(()),
            code => Err(format!("{code}")),
        }
    });
    let missing = r#"{"metadata":{"name":"v1.absent.example.com"},"spec":{"group":"absent.example.com","version":"v1",
        "groupPriorityMinimum":100,"versionPriority":100,"service":{"namespace":"default","name":"absent"}}}"#;
    assert_eq!(
        cluster
            .post("/apis/apiregistration.k8s.io/v1/apiservices", missing)
            .code,
        201
    );
    let condition = "{.status.conditions[?(@.type==\"Available\")].status}";
    cluster.until("apiservice/v1.absent.example.com", condition, "False");
}

/// Comes with something that is no TLS.
fn knock(cluster: &Cluster) {
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.port)).expect("the API");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
}

#[test]
fn a_dashboard_finds_what_it_reads() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        traffic(&cluster);
        trouble(&cluster);
        knock(&cluster);
        let scrape = Scrape::of(&cluster.curled(&[], "/metrics"));
        for (name, labels) in READ_BY_RULES {
            scrape.has(name, labels);
        }
        scrape.histograms_are_whole();
        let of = [("resource", "configmaps"), ("group", ""), ("version", "v1")];
        let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
        for (verb, scope, code, dry_run, count) in [
            ("POST", "resource", "201", "", 3.0),
            ("POST", "resource", "201", "All", 3.0),
            ("GET", "resource", "200", "", 1.0),
            ("GET", "resource", "404", "", 1.0),
            ("LIST", "namespace", "200", "", 1.0),
            ("PUT", "resource", "200", "", 1.0),
            ("APPLY", "resource", "200", "", 1.0),
            ("DELETE", "resource", "200", "", 1.0),
        ] {
            let selected = with(&[
                ("verb", verb),
                ("scope", scope),
                ("code", code),
                ("dry_run", dry_run),
            ]);
            let found = scrape.sum("apiserver_request_total", &selected);
            assert!(found >= count, "{verb} {scope} {code} {dry_run}: {found}");
        }
        // The burn rates: all that was read, less what was read in time. The bound is a text to them.
        let read = with(&[("verb", "LIST"), ("scope", "namespace")]);
        let all = scrape.sum("apiserver_request_sli_duration_seconds_count", &read);
        let quick = scrape.sum(
            "apiserver_request_sli_duration_seconds_bucket",
            &[&read[..], &[("le", "5")]].concat(),
        );
        assert!(all >= 1.0 && all == quick, "{all} {quick}");
        // What was only tried counts for no service level.
        let made = with(&[("verb", "POST")]);
        let sli = scrape.sum("apiserver_request_sli_duration_seconds_count", &made);
        let tried = [&made[..], &[("dry_run", "All")]].concat();
        let tried = scrape.sum("apiserver_request_duration_seconds_count", &tried);
        assert_eq!(
            sli + tried,
            scrape.sum("apiserver_request_duration_seconds_count", &made)
        );
        let core = [("group", ""), ("resource", "configmaps")];
        assert!(scrape.sum("apiserver_watch_events_total", &of) >= 3.0);
        assert!(scrape.sum("apiserver_resource_objects", &core) >= 2.0);
        assert!(
            scrape.sum(
                "etcd_requests_total",
                &[&core[..], &[("operation", "create")]].concat()
            ) >= 3.0
        );
        assert!(scrape.sum("apiserver_storage_objects", &[("resource", "deployments.apps")]) == 1.0);
        assert!(scrape.sum("apiserver_tls_handshake_errors_total", &[]) >= 1.0);
        assert!(
            scrape.sum(
                "apiserver_requested_deprecated_apis",
                &[("resource", "endpoints")]
            ) == 1.0
        );
        let absent = [("name", "v1.absent.example.com")];
        assert_eq!(scrape.sum("aggregator_unavailable_apiservice", &absent), 1.0);
        assert!(
            scrape.sum(
                "apiserver_request_terminations_total",
                &[("code", "504"), ("verb", "POST")]
            ) >= 1.0
        );
        assert!(scrape.sum("workqueue_adds_total", &[("name", "deployment")]) >= 1.0);
        assert!(
            scrape.sum(
                "rest_client_requests_total",
                &[("code", "200"), ("method", "GET")]
            ) >= 1.0
        );
        assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1e6);
        assert_eq!(
            scrape.sum("kubernetes_build_info", &[("git_version", "v1.36.0+coracle")]),
            1.0
        );
        // Whoever asks for the newer format has it.
        let open = cluster.curled(
            &[
                "-H",
                "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            ],
            "/metrics",
        );
        assert_has(&open, &["# TYPE apiserver_request counter\n", "# EOF"]);
    });
}

#[test]
fn probes_are_told_of_each_part() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        eventually("that all is well", || {
            crate::support::has(&cluster.curled(&[], "/readyz"), &["ok"])
        });
        let words = cluster.curled(&[], "/readyz?verbose&exclude=etcd&exclude=odd");
        assert_has(
            &words,
            &[
                "[+]ping ok\n",
                "[+]log ok\n",
                "[+]etcd excluded: ok\n",
                "[+]etcd-readiness ok\n",
                "[+]poststarthook/rbac/bootstrap-roles ok\n",
                "[+]informer-sync ok\n",
                "[+]poststarthook/crd-informer-synced ok\n",
                "[+]poststarthook/apiservice-registration-controller ok\n",
                "[+]poststarthook/start-service-ip-repair-controllers ok\n",
                "[+]autoregister-completion ok\n",
                "[+]shutdown ok\n",
                "warn: some health checks cannot be excluded: no matches for \"odd\"\n",
                "readyz check passed\n",
            ],
        );
        assert_eq!(
            cluster.curled(&[], "/livez/poststarthook/bootstrap-controller"),
            "ok"
        );
        for ready_only in ["etcd-readiness", "informer-sync"] {
            let path = format!("/livez/{ready_only}");
            assert_eq!(cluster.curled(&[], &path), "404 page not found\n");
        }
        let slis = Scrape::of(&cluster.curled(&[], "/metrics/slis"));
        assert_eq!(
            slis.sum("kubernetes_healthcheck", &[("name", "ping"), ("type", "readyz")]),
            1.0
        );
        let counted = [("name", "log"), ("type", "readyz"), ("status", "success")];
        assert!(slis.sum("kubernetes_healthchecks_total", &counted) >= 2.0);
        assert!(slis.sum("process_start_time_seconds", &[]) > 1e9);
        let root = cluster.call(&As::Admin, "GET", "/", "", "").body;
        let paths: Vec<&str> = root["paths"]
            .as_array()
            .expect("paths")
            .iter()
            .filter_map(|path| path.as_str())
            .collect();
        for path in [
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/readyz/shutdown",
            "/healthz/ping",
            "/metrics/slis",
        ] {
            assert!(paths.contains(&path), "{path}: {paths:?}");
        }
        assert!(
            paths.is_sorted() && !paths.contains(&"/livez/shutdown"),
            "{paths:?}"
        );
    });
}
