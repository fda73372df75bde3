use serde_json::{Value, json};

use super::*;

fn spec(json: Value) -> PodSpec {
    serde_json::from_value(json).unwrap()
}

fn shown(amounts: Amounts) -> Vec<String> {
    amounts.into_iter().map(|(k, q)| format!("{k}={q}")).collect()
}

fn container(cpu: &str) -> Value {
    json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
}

fn sidecar(cpu: &str) -> Value {
    json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
}

#[test]
fn requests_follow_the_order_in_which_containers_run() {
    for (inits, mains, expected) in [
        (vec![], vec![container("1"), container("500m")], "cpu=1500m"),
        (vec![container("2")], vec![container("1")], "cpu=2"),
        (vec![sidecar("1")], vec![container("1")], "cpu=2"),
        (vec![sidecar("1"), container("3")], vec![container("1")], "cpu=4"),
        (vec![container("3"), sidecar("1")], vec![container("1")], "cpu=3"),
    ] {
        let spec = spec(json!({"containers": mains, "initContainers": inits}));
        assert_eq!(shown(requests(&spec)), [expected]);
    }
    let with_overhead = spec(json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}));
    assert_eq!(shown(requests(&with_overhead)), ["cpu=1250m"]);
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        qos_class(&spec(
            json!({"containers": [{"name": "c", "resources": resources}]}),
        ))
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
        "Guaranteed"
    );
    let equal =
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
    assert_eq!(class(equal), "Guaranteed");
    assert_eq!(
        class(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})),
        "Burstable"
    );
    assert_eq!(class(json!({"requests": {"example.com/gpu": "1"}})), "BestEffort");
}

#[test]
fn taints_and_tolerations() {
    let taint: Taint =
        serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).unwrap();
    for (toleration, expected) in [
        (json!({"operator": "Exists"}), true),
        (json!({"key": "k", "operator": "Exists"}), true),
        (json!({"key": "k", "value": "v"}), true),
        (json!({"key": "k", "value": "w"}), false),
        (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
        (json!({"key": "j", "operator": "Exists"}), false),
    ] {
        let t: Toleration = serde_json::from_value(toleration.clone()).unwrap();
        assert_eq!(tolerates(&t, &taint), expected, "{toleration}");
    }
    let plain = spec(json!({"containers": []}));
    assert!(untolerated(&plain, std::slice::from_ref(&taint), &["NoSchedule"]).is_some());
    assert!(untolerated(&plain, &[taint], &["NoExecute"]).is_none());
}

#[test]
fn nodes_that_fit() {
    let node: Node =
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}))
            .unwrap();
    let affinity = |terms: Value| {
        json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    for (spec_json, expected) in [
        (json!({"containers": []}), true),
        (json!({"containers": [], "nodeSelector": {"zone": "a"}}), true),
        (json!({"containers": [], "nodeSelector": {"zone": "b"}}), false),
        (
            affinity(
                json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]),
            ),
            true,
        ),
        (
            affinity(json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]}])),
            false,
        ),
        (
            affinity(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
            ),
            true,
        ),
        (affinity(json!([{}])), false),
        (
            affinity(json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}])),
            true,
        ),
    ] {
        assert_eq!(
            fits_node(&spec(spec_json.clone()), &node),
            expected,
            "{spec_json}"
        );
    }
}

#[test]
fn host_ports_collide_across_addresses() {
    let ports = host_ports(&spec(json!({"containers": [{"name": "c", "ports": [
        {"containerPort": 80, "hostPort": 80}, {"containerPort": 81}]}]})));
    assert_eq!(ports.len(), 1);
    let other = HostPort {
        ip: "10.0.0.1".into(),
        protocol: "TCP".into(),
        port: 80,
        container_port: 80,
    };
    assert!(ports[0].collides(&other));
    assert!(!ports[0].collides(&HostPort {
        protocol: "UDP".into(),
        ..other
    }));
}

#[test]
fn phase_and_readiness() {
    let pod: Pod = serde_json::from_value(json!({"status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}}))
    .unwrap();
    assert!(is_ready(&pod) && !is_finished(&pod));
    assert_eq!(phase(&Pod::default()), "Pending");
}
