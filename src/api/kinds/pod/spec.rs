//! Rules for a pod's spec as a whole (`pkg/apis/core/validation`).

use serde_json::json;

use super::{claims, containers, placement, platform, resources, security, volumes};
use crate::kinds::metadata;
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Rules for a pod template: its labels and annotations, and its spec.
pub fn template(template: &Field, errors: &mut Vec<FieldError>) {
    let meta = template.get("metadata");
    // Kubernetes' paths leave `metadata` out here.
    let at = |key: &str| Field::new(meta.get(key).value, template.path_of(key));
    metadata::labels(&at("labels"), errors);
    metadata::annotations(&at("annotations"), errors);
    super::annotations::check(&at("annotations"), &template.get("spec"), errors);
    pod_spec(&template.get("spec"), false, errors);
    let ephemeral = template.get("spec.ephemeralContainers");
    if !ephemeral.is_blank() {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// Rules for a pod's spec; those of a template are a little looser than those of a pod.
pub fn pod_spec(spec: &Field, is_pod: bool, errors: &mut Vec<FieldError>) {
    let volumes = volumes::check(spec, errors);
    claims::check(spec, errors);
    containers::check(spec, &volumes, errors);
    resources::of_pod(spec, errors);
    containers::host_network(spec, is_pod, errors);
    spec.get("restartPolicy")
        .one_of(&["Always", "OnFailure", "Never"], errors);
    spec.get("dnsPolicy").one_of(
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    metadata::labels(&spec.get("nodeSelector"), errors);
    security::pod(spec, errors);
    placement::affinity(&spec.get("affinity"), errors);
    dns(spec, errors);
    gates(spec, errors);
    placement::spreading(spec, errors);
    host_users(spec, errors);
    identity(spec, errors);
    overhead(spec, errors);
    platform::check(spec, errors);
}

fn dns(spec: &Field, errors: &mut Vec<FieldError>) {
    let config = spec.get("dnsConfig");
    let servers = config.items("nameservers");
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(config.get("nameservers").required(why));
            return;
        }
    }
    if servers.len() > 3 {
        errors.push(
            config
                .get("nameservers")
                .invalid("must not have more than 3 nameservers"),
        );
    }
    for server in servers {
        errors.extend(server.invalid_each(names::is_ip(server.text())));
    }
    searches(&config, errors);
    for option in config.items("options") {
        if option.get("name").is_blank() {
            errors.push(option.required("must not be empty"));
        }
    }
}

fn searches(config: &Field, errors: &mut Vec<FieldError>) {
    let (at, searches) = (config.get("searches"), config.items("searches"));
    if searches.len() > 32 {
        errors.push(at.invalid("must not have more than 32 search paths"));
    }
    let joined: usize = searches.iter().map(|s| s.text().len() + 1).sum();
    if joined > 2049 {
        errors.push(
            at.invalid("must not have more than 2048 characters (including spaces) in the search list"),
        );
    }
    // "." alone means no search at all.
    for search in searches.iter().filter(|s| s.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        let wrong = names::is_dns_subdomain_with_underscore(name);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(&search.path, name, why)),
        );
    }
}

fn host_users(spec: &Field, errors: &mut Vec<FieldError>) {
    if spec.get("hostUsers").value != &json!(false) {
        return;
    }
    for (key, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.get(key).flag() {
            let why = "when `pod.Spec.HostUsers` is false";
            errors.push(FieldError::forbidden(spec.path_of(shown), why));
        }
    }
}

/// A name of something, and its rule.
type Named = (&'static str, fn(&str) -> Vec<String>);

fn named(spec: &Field, all: &[Named], errors: &mut Vec<FieldError>) {
    for (key, rule) in all {
        let field = spec.get(key);
        if !field.is_blank() {
            errors.extend(field.invalid_each(rule(field.text())));
        }
    }
}

/// Names by which the pod is known, and what else has one value.
fn identity(spec: &Field, errors: &mut Vec<FieldError>) {
    let before: [Named; 2] = [
        ("serviceAccountName", names::is_dns_subdomain),
        ("nodeName", names::is_dns_subdomain),
    ];
    named(spec, &before, errors);
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline.int() {
        errors.extend(deadline.invalid_each(names::in_range(seconds, 1, i64::from(i32::MAX))));
    }
    let hosts: [Named; 2] = [
        ("hostname", names::is_dns_label),
        ("subdomain", names::is_dns_label),
    ];
    named(spec, &hosts, errors);
    placement::tolerations(spec, errors);
    for alias in spec.items("hostAliases") {
        let ip = alias.get("ip");
        errors.extend(ip.invalid_each(names::is_ip(ip.text())));
        for hostname in alias.items("hostnames") {
            errors.extend(hostname.invalid_each(names::is_dns_subdomain(hostname.text())));
        }
    }
    let classes: [Named; 2] = [
        ("priorityClassName", names::is_dns_subdomain),
        ("runtimeClassName", names::is_dns_subdomain),
    ];
    named(spec, &classes, errors);
    spec.get("preemptionPolicy")
        .one_of_if_set(&["PreemptLowerPriority", "Never"], errors);
}

/// What a pod costs by itself follows the rules of a container's limits.
fn overhead(spec: &Field, errors: &mut Vec<FieldError>) {
    let overhead = spec.get("overhead");
    if overhead.is_set() {
        let limits = json!({ "limits": overhead.value });
        resources::of_container(&Field::new(&limits, &overhead.path), spec, errors);
    }
}

fn gates(spec: &Field, errors: &mut Vec<FieldError>) {
    for gate in spec.items("readinessGates") {
        let kind = gate.get("conditionType");
        errors.extend(kind.invalid_each(names::is_qualified_name(kind.text())));
    }
    let mut seen = std::collections::BTreeSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.get("name");
        let named = Field::new(name.value, gate.path.clone());
        errors.extend(named.invalid_each(names::is_qualified_name(name.text())));
        if !seen.insert(name.text()) {
            errors.push(named.duplicate());
        }
    }
}
