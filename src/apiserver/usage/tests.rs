//! Questions answered by a made-up agent.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::request::{ResourceRef, User};
use base::SystemClock;
use bytes::Bytes;
use http_body_util::Full;

use super::*;
use crate::lookup::tests::Fixed;

/// A node whose agent counts how often it is asked, and has used a tenth of a second more each time.
fn node() -> (Usage, Arc<AtomicUsize>) {
    let links = NodeLinks::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    links.register_local("n1", move |request: http::Request<crate::body::Body>| {
        assert_eq!(request.uri().path(), "/node/metrics/resource");
        let turn = count.fetch_add(1, Ordering::SeqCst) as f64;
        let used = turn / 10.0;
        let place = r#"container="c",namespace="ns",pod="web""#;
        let page = format!(
            "node_cpu_usage_seconds_total {used}\nnode_memory_working_set_bytes 2048\n\
             container_cpu_usage_seconds_total{{{place}}} {used}\ncontainer_memory_working_set_bytes{{{place}}} 1024\n"
        );
        async move { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(page)))) }
    });
    let running = json!([{"name": "c", "state": {"running": {}}}]);
    let lookup = Fixed::default()
        .with(
            "",
            "nodes",
            json!({"metadata": {"name": "n1", "labels": {"zone": "a"}}}),
        )
        .with("", "nodes", json!({"metadata": {"name": "away"}}))
        .with(
            "",
            "pods",
            json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1"}, "status": {"containerStatuses": running}}),
        )
        .with(
            "",
            "pods",
            json!({"metadata": {"name": "idle", "namespace": "ns"}, "spec": {}}),
        );
    (
        Usage::new(links, Arc::new(lookup), Arc::new(SystemClock::new())),
        asked,
    )
}

fn request(verb: Verb, plural: &str, namespace: &str, name: &str) -> Request {
    let place = ResourceRef::new(GROUP, "v1beta1", plural);
    Request::new(User::default(), verb, place, namespace, name)
}

#[tokio::test]
async fn nodes_are_asked_only_as_often_as_needed() {
    let (usage, asked) = node();
    let answer = usage.answer(&request(Verb::List, "nodes", "", "")).await.unwrap();
    let list: Value = serde_json::from_slice(&answer.body.whole()).unwrap();
    assert_eq!(list["kind"], "NodeMetricsList");
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "the node that is away is left out: {list}");
    assert_eq!(items[0]["usage"]["memory"], "2Ki");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let answer = usage
        .answer(&request(Verb::Get, "pods", "ns", "web"))
        .await
        .unwrap();
    let pod: Value = serde_json::from_slice(&answer.body.whole()).unwrap();
    assert_eq!(pod["containers"][0]["name"], "c");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "what was just measured is good");
}

#[tokio::test]
async fn selectors_choose_and_what_is_missing_is_named() {
    let (usage, _) = node();
    let names = async |mut asked: Request, labels: &str| {
        asked.options.label_selector = labels.to_owned();
        let answer = usage.answer(&asked).await.unwrap();
        let list: Value = serde_json::from_slice(&answer.body.whole()).unwrap();
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| object::name(item).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(request(Verb::List, "pods", "", ""), "app=web").await,
        ["web"]
    );
    assert!(
        names(request(Verb::List, "pods", "other", ""), "")
            .await
            .is_empty()
    );
    assert!(
        names(request(Verb::List, "nodes", "", ""), "zone=b")
            .await
            .is_empty()
    );
    let missing = usage
        .answer(&request(Verb::Get, "pods", "ns", "idle"))
        .await
        .unwrap_err();
    assert_eq!(missing.message, "podmetrics.metrics.k8s.io \"ns/idle\" not found");
    let refused = usage
        .answer(&request(Verb::Create, "pods", "ns", ""))
        .await
        .unwrap_err();
    assert_eq!(refused.code, 405);
}
