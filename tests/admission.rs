//! What Kubernetes' default admission plugins refuse, add and warn of, as kubectl shows it.

use serde_json::{Value, json};

use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn namespace(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) {
    cluster.ok(&["create", "namespace", name]);
    for (key, value) in labels {
        label(cluster, name, key, value);
    }
    eventually("the default account", || {
        cluster.try_ok(&["get", "serviceaccount", "default", "-n", name])
    });
}

/// Sets a label of Pod Security; everything kubectl said.
fn label(cluster: &Cluster, namespace: &str, key: &str, value: &str) -> String {
    let label = format!("pod-security.kubernetes.io/{key}={value}");
    cluster.run_both(&["label", "--overwrite", "namespace", namespace, &label])
}

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "main", "image": "local/none:1"}]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

fn create(cluster: &Cluster, namespace: &str, object: &Value) -> Result<String, String> {
    cluster.feed(&["create", "-n", namespace, "-f", "-"], &object.to_string())
}

fn hardened() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "main", "image": "local/none:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    })
}

#[test]
fn pod_security_holds_at_every_level() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        levels(&cluster);
        warned(&cluster);
        labels_change(&cluster);
    });
}

fn levels(cluster: &Cluster) {
    namespace(cluster, "open", &[]);
    namespace(cluster, "base", &[("enforce", "baseline")]);
    namespace(cluster, "tight", &[("enforce", "restricted")]);
    let (host, plain, hard) = (
        pod("host", json!({"hostNetwork": true})),
        pod("plain", json!({})),
        pod("hard", hardened()),
    );
    for (namespace, object, refusal) in [
        ("open", &host, ""),
        ("base", &plain, ""),
        ("tight", &hard, ""),
        (
            "base",
            &host,
            "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
        ),
        (
            "tight",
            &plain,
            "pods \"plain\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != \
             false (container \"main\" must set securityContext.allowPrivilegeEscalation=false), unrestricted \
             capabilities (container \"main\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != \
             true (pod or container \"main\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or \
             container \"main\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ] {
        match (create(cluster, namespace, object), refusal) {
            (Ok(_), "") => {}
            (Err(why), refusal) if !refusal.is_empty() => assert_has(&why, &[refusal]),
            (result, _) => panic!("{namespace}: {object}: {result:?}"),
        }
    }
    // An older standard asks for less.
    label(cluster, "tight", "enforce-version", "v1.18");
    let mut older = hardened();
    older["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": false});
    create(cluster, "tight", &pod("older", older)).unwrap();
}

fn warned(cluster: &Cluster) {
    namespace(cluster, "told", &[("warn", "baseline")]);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "told"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": pod("", json!({"hostPID": true}))["spec"]}}});
    let file = cluster.home().join("deployment.json");
    std::fs::write(&file, deployment.to_string()).expect("a file");
    let said = cluster.run_both(&["apply", "-f", file.to_str().expect("a path")]);
    let words = "Warning: would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    assert_has(&said, &[words, "deployment.apps/web created"]);
}

fn labels_change(cluster: &Cluster) {
    let said = label(cluster, "open", "enforce", "baseline");
    assert_has(
        &said,
        &[
            "Warning: existing pods in namespace \"open\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "Warning: host: host namespaces",
        ],
    );
    let why = cluster.refused(&[
        "label",
        "--overwrite",
        "namespace",
        "open",
        "pod-security.kubernetes.io/enforce=x",
    ]);
    assert_has(&why, &["must be one of privileged, baseline, restricted"]);
}

#[test]
fn limit_ranges_fill_in_and_bound() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        namespace(&cluster, "shop", &[]);
        let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"limits": [
                {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "250m"}, "max": {"cpu": "1"}},
                {"type": "Pod", "max": {"cpu": "1500m"}},
                {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}}]}});
        cluster.apply(&range.to_string());
        create(&cluster, "shop", &pod("silent", json!({}))).unwrap();
        let of = |path: &str| {
            cluster.ok(&[
                "get",
                "pod",
                "silent",
                "-n",
                "shop",
                "-o",
                &format!("jsonpath={path}"),
            ])
        };
        assert_eq!(of("{.spec.containers[0].resources.limits.cpu}"), "500m");
        assert_eq!(of("{.spec.containers[0].resources.requests.cpu}"), "250m");
        assert_has(
            &of("{.metadata.annotations}"),
            &["LimitRanger plugin set: cpu request for container main; cpu limit for container main"],
        );
        let greedy = |name: &str, cpu: &str| json!({"name": name, "image": "local/none:1", "resources": {"limits": {"cpu": cpu}}});
        let big = pod("big", json!({"containers": [greedy("a", "2")]}));
        assert_has(
            &create(&cluster, "shop", &big).unwrap_err(),
            &["maximum cpu usage per Container is 1, but limit is 2"],
        );
        let many = pod(
            "many",
            json!({"containers": [greedy("a", "1"), greedy("b", "1")]}),
        );
        assert_has(
            &create(&cluster, "shop", &many).unwrap_err(),
            &["maximum cpu usage per Pod is 1500m, but limit is 2"],
        );
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
        assert_has(
            &create(&cluster, "shop", &claim).unwrap_err(),
            &["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"],
        );
    });
}

#[test]
fn classes_marked_as_default_are_taken() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let storage = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/x",
            "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "spec": {"controller": "example.com/x"},
            "metadata": {"name": "main", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
        cluster.apply(&storage.to_string());
        cluster.apply(&ingress.to_string());
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        create(&cluster, "default", &claim).unwrap();
        let of = |path: &str| cluster.ok(&["get", "pvc", "c", "-o", &format!("jsonpath={path}")]);
        assert_eq!(of("{.spec.storageClassName}"), "fast");
        assert_eq!(of("{.metadata.finalizers[0]}"), "kubernetes.io/pvc-protection");
        cluster.ok(&["create", "ingress", "i", "--rule=example.com/*=web:80"]);
        let class = cluster.ok(&["get", "ingress", "i", "-o", "jsonpath={.spec.ingressClassName}"]);
        assert_eq!(class, "main");
        places_are_told_and_classes_kept(&cluster);
        let grown = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        assert_has(&cluster.refused(&["patch", "pvc", "c", "-p", grown]), &[why]);
    });
}

/// Pods say in which zone they are, and a class of volumes stays as long as a claim has it.
fn places_are_told_and_classes_kept(cluster: &Cluster) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "far", "labels": {
        "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "o"}}});
    cluster.apply(&node.to_string());
    let shown = |name: &str| cluster.ok(&["get", "pod", name, "-o", "jsonpath={.metadata.labels}"]);
    let mut placed = pod("placed", json!({}));
    placed["spec"]["nodeName"] = "far".into();
    eventually("the default account", || create(cluster, "default", &placed));
    create(cluster, "default", &pod("bound", json!({}))).unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"},
        "target": {"kind": "Node", "name": "far"}});
    let path = "/api/v1/namespaces/default/pods/bound/binding";
    assert_eq!(cluster.post(path, &binding.to_string()).code, 201);
    for name in ["placed", "bound"] {
        let labels: Value = serde_json::from_str(&shown(name)).unwrap();
        let wanted = json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"});
        assert_eq!(labels, wanted, "{name}");
    }
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "quick"},
        "driverName": "example.com", "parameters": {"iops": "100"}});
    cluster.apply(&class.to_string());
    let class = "volumeattributesclass/quick";
    assert_eq!(
        cluster.field(class, "{.metadata.finalizers[*]}").unwrap(),
        "kubernetes.io/vac-protection"
    );
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "q"},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": "quick",
            "resources": {"requests": {"storage": "1Gi"}}}});
    create(cluster, "default", &claim).unwrap();
    cluster.ok(&["delete", class, "--wait=false"]);
    // What the controller would do it does as soon as it sees the deletion; a second class shows that it has.
    let other = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "slow"},
        "driverName": "example.com", "parameters": {"iops": "1"}});
    cluster.apply(&other.to_string());
    cluster.ok(&["delete", "volumeattributesclass/slow", "--timeout=60s"]);
    assert_has(
        &cluster.field(class, "{.metadata.finalizers[*]}").unwrap(),
        &["vac-protection"],
    );
    cluster.ok(&["delete", "pvc", "q"]);
    eventually("the end of the class", || {
        match cluster.field(class, "{.metadata.name}") {
            Ok(name) => Err(name),
            Err(why) => crate::support::has(&why, &["NotFound"]),
        }
    });
}
