//! What nodes and pods use: `kubectl top`, the objects behind it, and a metrics server of one's own.

use serde_json::json;

use crate::support::manifests::idle_pod;
use crate::support::rest::As;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed, tools};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

#[test]
fn kubectl_top_shows_nodes_pods_and_containers_of_both_sorts() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("box"));
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: guest, labels: {sort: wasm}}
spec:
  containers:
  - {name: web, image: "local/hello-http:1", ports: [{containerPort: 8080}]}
"#,
        );
        cluster.pod_ready("box");
        cluster.pod_ready("guest");
        for (minor, kubectl) in tools::oldest_and_newest() {
            let top = |args: &[&str]| {
                let mut command = std::process::Command::new(&kubectl);
                let out = cluster.dress(command.arg("top").args(args)).output().unwrap();
                crate::support::said::said(out).map_err(|why| format!("kubectl 1.{minor}: {why}"))
            };
            eventually("the node's use", || {
                has(&top(&["nodes"])?, &["CPU", "MEMORY", "Mi"])
            });
            eventually("the pods' use", || has(&top(&["pods"])?, &["box", "guest", "Mi"]));
            let containers = top(&["pods", "--containers"]).unwrap();
            assert_has(&containers, &["box", "main", "guest", "web"]);
            let chosen = top(&["pods", "-l", "sort=wasm"]).unwrap();
            assert!(chosen.contains("guest") && !chosen.contains("box"), "{chosen}");
        }
        objects(&cluster);
        taken_over(&cluster);
    });
}

fn objects(cluster: &Cluster) {
    assert_has(
        &cluster.ok(&["get", "--raw", &format!("{METRICS}/namespaces/default/pods/box")]),
        &["\"kind\":\"PodMetrics\"", "\"window\":", "\"name\":\"main\""],
    );
    assert_has(
        &cluster.ok(&["get", "pods.metrics.k8s.io"]),
        &["NAME", "CPU", "MEMORY", "WINDOW", "guest"],
    );
    assert_has(&cluster.ok(&["get", "nodes.metrics.k8s.io"]), &["CPU", "WINDOW"]);
    assert_has(
        &cluster.ok(&[
            "explain",
            "pods.containers",
            "--api-version=metrics.k8s.io/v1beta1",
        ]),
        &["usage"],
    );
    let missing = cluster.call(&As::Admin, "GET", &format!("{METRICS}/nodes/nobody"), "", "");
    missing.is(
        404,
        "NotFound",
        &["nodemetrics.metrics.k8s.io \"nobody\" not found"],
    );
    let written = cluster.post(&format!("{METRICS}/nodes"), "{}");
    assert_eq!(written.code, 405, "{written:?}");
    // Who may not, may not; viewers may.
    let refused = cluster.refused(&["top", "pods", "--as=eve"]);
    assert_has(
        &refused,
        &["cannot list resource \"pods\" in API group \"metrics.k8s.io\""],
    );
    cluster.ok(&["create", "rolebinding", "eve", "--clusterrole=view", "--user=eve"]);
    eventually("the right to see", || {
        cluster.try_ok(&["top", "pods", "--as=eve"])
    });
}

/// A metrics server that somebody installs takes the place of ours, which comes back when it goes.
fn taken_over(cluster: &Cluster) {
    let service = "apiservice/v1beta1.metrics.k8s.io";
    assert_has(&cluster.ok(&["get", service]), &["Local", "True"]);
    cluster.apply(
        &json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": {"namespace": "kube-system", "name": "metrics-server"}}})
        .to_string(),
    );
    eventually("the end of ours", || {
        has(
            &cluster.ok(&["get", service]),
            &["kube-system/metrics-server", "False (ServiceNotFound)"],
        )
    });
    eventually("a refusal", || match cluster.try_ok(&["top", "pods"]) {
        Ok(said) => Err(said),
        Err(why) => Ok(why),
    });
    cluster.ok(&["delete", service]);
    eventually("ours again", || has(&cluster.try_ok(&["top", "pods"])?, &["box"]));
}
