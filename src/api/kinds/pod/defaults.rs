//! What a pod, or a pod template, has when nothing is said (`pkg/apis/core/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::pod::Amounts;
use crate::quantity::Quantity;
use crate::value::{each, entries, fill, fill_number, fill_text, flag, get, get_mut, has, list, set, text};

/// Mode of files in volumes, 0644.
const FILE_MODE: i64 = 0o644;

/// Defaults of a Pod.
pub fn pod(pod: &mut Value) {
    let Some(spec) = get_mut(pod, "spec") else { return };
    pod_spec(spec);
    fill(spec, "enableServiceLinks", true);
    let host_network = flag(spec, "hostNetwork");
    for containers in ["containers", "initContainers"] {
        each(spec, containers, |container| {
            requests_from_limits(container);
            if host_network {
                each(container, "ports", |port| {
                    let number = get(port, "containerPort").as_i64().unwrap_or(0);
                    fill_number(port, "hostPort", number);
                });
            }
        });
    }
    pod_level_requests(spec);
}

/// Defaults of a pod template at `holder.template`.
pub fn template(holder: &mut Value) {
    if let Some(spec) = get_mut(holder, "template.spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    each(spec, "volumes", volume);
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, containers, container);
    }
    round_amounts(spec, "overhead");
    round_amounts(spec, "resources.limits");
    round_amounts(spec, "resources.requests");
}

/// `serviceAccount` follows `serviceAccountName`, or stands for it when only the old name is given.
pub fn service_account(spec: &mut Value) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        set(spec, "serviceAccountName", name.as_str());
        set(spec, "serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(text(container, "image"));
    fill_text(container, "imagePullPolicy", policy);
    fill(container, "resources", json!({}));
    each(container, "ports", |port| fill_text(port, "protocol", "TCP"));
    each(container, "env", |env| {
        if let Some(field) = get_mut(env, "valueFrom.fieldRef") {
            fill_text(field, "apiVersion", "v1");
        }
        if let Some(file) = get_mut(env, "valueFrom.fileKeyRef") {
            fill(file, "optional", false);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = get_mut(container, name) {
            fill_number(probe, "timeoutSeconds", 1);
            fill_number(probe, "periodSeconds", 10);
            fill_number(probe, "successThreshold", 1);
            fill_number(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = get_mut(probe, "grpc") {
                fill(grpc, "service", "");
            }
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(hook) = get_mut(container, hook) {
            http_get(hook);
        }
    }
    round_amounts(container, "resources.limits");
    round_amounts(container, "resources.requests");
}

fn http_get(handler: &mut Value) {
    if let Some(http) = get_mut(handler, "httpGet") {
        fill_text(http, "path", "/");
        fill_text(http, "scheme", "HTTP");
    }
}

/// `Always` for images that may change under their name: tag `latest`, or neither tag nor digest.
fn pull_policy(image: &str) -> &'static str {
    let digest = image.contains('@');
    let last = image.rsplit('/').next().unwrap_or("");
    let tag = last
        .split('@')
        .next()
        .and_then(|name| name.split_once(':'))
        .map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(container: &mut Value) {
    let limits: Map<String, Value> = entries(container, "resources.limits")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if limits.is_empty() {
        return;
    }
    let Some(resources) = get_mut(container, "resources") else {
        return;
    };
    fill(resources, "requests", json!({}));
    if let Some(requests) = get_mut(resources, "requests") {
        for (name, limit) in limits {
            fill(requests, &name, limit);
        }
    }
}

/// With limits on the pod as a whole, its missing requests are what its containers ask for, else the limit.
fn pod_level_requests(spec: &mut Value) {
    if !has(spec, "resources.limits") {
        return;
    }
    let mut asked = Amounts::new();
    for container in list(spec, "containers") {
        for (name, quantity) in entries(container, "resources.requests") {
            *asked.entry(name.clone()).or_default() += Quantity::from_json(quantity).unwrap_or_default();
        }
    }
    let limits: Vec<(String, Value)> = entries(spec, "resources.limits")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let Some(resources) = get_mut(spec, "resources") else {
        return;
    };
    fill(resources, "requests", json!({}));
    if let Some(requests) = get_mut(resources, "requests") {
        for (name, limit) in limits {
            let request = asked.get(&name).map_or(limit, |q| json!(q.to_string()));
            fill(requests, &name, request);
        }
    }
}

/// Amounts finer than a thousandth are rounded up.
fn round_amounts(holder: &mut Value, path: &str) {
    let Some(amounts) = get_mut(holder, path).and_then(Value::as_object_mut) else {
        return;
    };
    for amount in amounts.values_mut() {
        if let Ok(quantity) = Quantity::from_json(amount) {
            *amount = json!(quantity.round_up_milli().to_string());
        }
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |v| {
        v.iter().filter(|(k, v)| *k != "name" && !v.is_null()).count()
    });
    if sources == 0 {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = get_mut(volume, source) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    each(volume, "downwardAPI.items", downward_item);
    each(volume, "projected.sources", |source| {
        if let Some(token) = get_mut(source, "serviceAccountToken") {
            fill(token, "expirationSeconds", 3600);
        }
        each(source, "downwardAPI.items", downward_item);
    });
    if let Some(path) = get_mut(volume, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(claim) = get_mut(volume, "ephemeral.volumeClaimTemplate.spec") {
        fill_text(claim, "volumeMode", "Filesystem");
    }
    if let Some(iscsi) = get_mut(volume, "iscsi") {
        fill_text(iscsi, "iscsiInterface", "default");
    }
    let reference = text(volume, "image.reference").to_owned();
    if let Some(image) = get_mut(volume, "image") {
        fill_text(image, "pullPolicy", pull_policy(&reference));
    }
}

fn downward_item(item: &mut Value) {
    if let Some(field) = get_mut(item, "fieldRef") {
        fill_text(field, "apiVersion", "v1");
    }
}
