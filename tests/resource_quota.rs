//! ResourceQuota: what is counted, what is refused, that many at once get no more than is there, and that the status
//! settles and then stays still.

use std::thread;

use serde_json::json;

use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn start(dir: &std::path::Path) -> Cluster {
    let cluster = Cluster::start_as("server", dir.join("data"), &[]);
    cluster.ok(&["create", "namespace", "shop"]);
    eventually("the namespace's own objects", || {
        cluster.try_ok(&[
            "get",
            "configmap/kube-root-ca.crt",
            "serviceaccount/default",
            "-n",
            "shop",
        ])
    });
    cluster
}

/// Waits until the quota says that so much is used of something.
fn used(cluster: &Cluster, name: &str, wanted: &str) {
    eventually(&format!("{name}={wanted}"), || {
        let all = cluster.try_ok(&["get", "quota", "q", "-n", "shop", "-o", "json"])?;
        let quota: serde_json::Value = serde_json::from_str(&all).map_err(|e| e.to_string())?;
        match quota["status"]["used"][name].as_str() {
            Some(is) if is == wanted => Ok(()),
            is => Err(format!("{name} is {is:?}")),
        }
    });
}

fn version(cluster: &Cluster) -> String {
    let path = "jsonpath={.metadata.resourceVersion}";
    cluster.ok(&["get", "quota", "q", "-n", "shop", "-o", path])
}

#[test]
fn quotas_count_what_is_made_and_what_goes() {
    sandboxed(|dir| {
        let cluster = start(dir);
        let hard =
            "pods=2,requests.cpu=1,services.nodeports=1,count/deployments.apps=1,count/widgets.example.com=1";
        cluster.ok(&["create", "quota", "q", "-n", "shop", &format!("--hard={hard}")]);
        used(&cluster, "pods", "0");
        used(&cluster, "count/widgets.example.com", "0");
        pods(&cluster);
        others(&cluster);
        custom(&cluster);
        scopes(&cluster);
        let before = version(&cluster);
        // What is not counted makes no difference, and neither does time.
        cluster.ok(&["create", "configmap", "other", "-n", "shop"]);
        cluster.ok(&["label", "pod", "a", "-n", "shop", "x=y"]);
        thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(version(&cluster), before, "a settled status stays still");
        cluster.ok(&["delete", "pod", "a", "-n", "shop", "--now"]);
        used(&cluster, "pods", "0");
        used(&cluster, "requests.cpu", "0");
        assert_has(
            &cluster.ok(&["describe", "quota", "q", "-n", "shop"]),
            &["requests.cpu", "count/deployments.apps"],
        );
    });
}

/// A quota of some pods is no business of the others.
fn scopes(cluster: &Cluster) {
    cluster.ok(&["create", "namespace", "dock"]);
    eventually("the account", || {
        cluster.try_ok(&["get", "serviceaccount/default", "-n", "dock"])
    });
    for (name, scope) in [("idle", "BestEffort"), ("busy", "NotBestEffort")] {
        cluster.ok(&[
            "create",
            "quota",
            name,
            "-n",
            "dock",
            "--hard=pods=1",
            &format!("--scopes={scope}"),
        ]);
    }
    let pod = |name: &str, resources: serde_json::Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers":
            [{"name": "main", "image": "local/none:1", "resources": resources}]}});
        cluster.feed(&["create", "-n", "dock", "-f", "-"], &pod.to_string())
    };
    let asks = || json!({"requests": {"cpu": "10m"}});
    pod("a", json!({})).unwrap();
    assert_has(
        &pod("b", json!({})).unwrap_err(),
        &["exceeded quota: idle, requested: pods=1, used: pods=1"],
    );
    pod("c", asks()).unwrap();
    assert_has(
        &pod("d", asks()).unwrap_err(),
        &["exceeded quota: busy, requested: pods=1, used: pods=1"],
    );
}

fn pods(cluster: &Cluster) {
    let pod = |name: &str, cpu: &str| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers":
            [{"name": "main", "image": "local/none:1", "resources": {"requests": {"cpu": cpu}}}]}});
        cluster.feed(&["create", "-n", "shop", "-f", "-"], &pod.to_string())
    };
    pod("a", "600m").unwrap();
    assert_has(
        &pod("b", "600m").unwrap_err(),
        &[
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: \
           requests.cpu=1",
        ],
    );
    assert_has(
        &cluster.refused(&["run", "c", "--image=local/none:1", "-n", "shop"]),
        &["failed quota: q: must specify requests.cpu for: c"],
    );
    used(cluster, "requests.cpu", "600m");
}

fn others(cluster: &Cluster) {
    let expose =
        |name: &str| cluster.try_ok(&["create", "service", "nodeport", name, "--tcp=80", "-n", "shop"]);
    expose("one").unwrap();
    assert_has(
        &expose("two").unwrap_err(),
        &["exceeded quota: q", "services.nodeports=1"],
    );
    cluster.ok(&["delete", "service", "one", "-n", "shop"]);
    used(cluster, "services.nodeports", "0");
    let deploy = |name: &str| {
        cluster.try_ok(&[
            "create",
            "deployment",
            name,
            "--image=x",
            "--replicas=0",
            "-n",
            "shop",
        ])
    };
    deploy("one").unwrap();
    assert_has(
        &deploy("two").unwrap_err(),
        &["requested: count/deployments.apps=1"],
    );
}

fn custom(cluster: &Cluster) {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    cluster.apply(&definition.to_string());
    cluster.ok(&["wait", "--for=condition=established", "crd/widgets.example.com"]);
    let widget = |name: &str| {
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "shop"}});
        cluster.post(
            "/apis/example.com/v1/namespaces/shop/widgets",
            &widget.to_string(),
        )
    };
    eventually("the first widget", || match widget("one") {
        answer if answer.code == 201 => Ok(()),
        answer => Err(answer.body.to_string()),
    });
    let answer = widget("two");
    answer.is(
        403,
        "Forbidden",
        &["exceeded quota: q", "count/widgets.example.com=1"],
    );
}

#[test]
fn many_at_once_get_no_more_than_is_there() {
    sandboxed(|dir| {
        let cluster = start(dir);
        cluster.ok(&["create", "quota", "q", "-n", "shop", "--hard=configmaps=12"]);
        // One is every namespace's own.
        used(&cluster, "configmaps", "1");
        let made: usize = thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|writer| {
                    scope.spawn({
                        let cluster = &cluster;
                        move || write(cluster, writer)
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"))
                .sum()
        });
        assert_eq!(made, 11);
        used(&cluster, "configmaps", "12");
        let names = cluster.ok(&["get", "configmaps", "-n", "shop", "-o", "name"]);
        let mut delete = vec!["delete", "-n", "shop"];
        delete.extend(names.lines().filter(|name| name.contains("/m-")));
        cluster.ok(&delete);
        used(&cluster, "configmaps", "1");
    });
}

/// Makes five objects; how many it was let.
fn write(cluster: &Cluster, writer: usize) -> usize {
    let one =
        |n: usize| match cluster.try_ok(&["create", "configmap", &format!("m-{writer}-{n}"), "-n", "shop"]) {
            Ok(_) => true,
            Err(why) => {
                assert_has(
                    &why,
                    &["exceeded quota: q, requested: configmaps=1, used: configmaps=12"],
                );
                false
            }
        };
    (0..5).filter(|n| one(*n)).count()
}
