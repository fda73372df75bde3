//! Rules for a pod's spec as a whole (`pkg/apis/core/validation`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{containers, placement, volumes};
use crate::kinds::metadata;
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::Field;

/// Rules for a pod template: its labels and annotations, and its spec.
pub fn template(template: &Field, errors: &mut Vec<FieldError>) {
    let meta = template.get("metadata");
    metadata::labels(&meta.get("labels"), errors);
    metadata::annotations(&meta.get("annotations"), errors);
    pod_spec(&template.get("spec"), errors);
    let ephemeral = template.get("spec.ephemeralContainers");
    if !ephemeral.is_blank() {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// Rules for a pod's spec.
pub fn pod_spec(spec: &Field, errors: &mut Vec<FieldError>) {
    let volumes = volumes::check(spec, errors);
    containers::check(spec, &volumes, errors);
    restart_policy(spec, errors);
    dns(spec, errors);
    host_namespaces(spec, errors);
    security_context(&spec.get("securityContext"), errors);
    for secret in spec.items("imagePullSecrets") {
        let name = secret.get("name");
        if name.is_blank() {
            errors.push(name.required(""));
        }
    }
    placement::check(spec, errors);
    identity(spec, errors);
    limits(spec, errors);
    gates(spec, errors);
}

fn restart_policy(spec: &Field, errors: &mut Vec<FieldError>) {
    spec.get("restartPolicy")
        .one_of(&["Always", "OnFailure", "Never"], errors);
}

fn dns(spec: &Field, errors: &mut Vec<FieldError>) {
    let policy = spec.get("dnsPolicy");
    policy.one_of(
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        errors,
    );
    let config = spec.get("dnsConfig");
    let servers = config.items("nameservers");
    if policy.text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if servers.is_empty() {
            errors.push(
                config
                    .get("nameservers")
                    .required("must provide at least one DNS nameserver when `dnsPolicy` is None"),
            );
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
    let searches = config.items("searches");
    if searches.len() > 32 {
        errors.push(
            config
                .get("searches")
                .invalid("must not have more than 32 search paths"),
        );
    }
    for search in searches {
        let name = search.text().trim_end_matches('.');
        // An underscore may begin a label here, and "." alone means no search at all.
        if search.text() != "." {
            errors.extend(search.invalid_each(names::is_dns_subdomain(
                name.replace('_', "-").trim_start_matches('-'),
            )));
        }
    }
    for option in config.items("options") {
        if option.get("name").is_blank() {
            errors.push(option.get("name").required("must not be empty"));
        }
    }
}

fn host_namespaces(spec: &Field, errors: &mut Vec<FieldError>) {
    if spec.get("hostPID").flag() && spec.get("shareProcessNamespace").flag() {
        errors.push(
            spec.get("shareProcessNamespace")
                .invalid("ShareProcessNamespace and HostPID cannot both be enabled"),
        );
    }
    if spec.get("hostUsers").value == &Value::Bool(false) {
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.get(key).flag() {
                errors.push(spec.get(key).forbidden("when `hostUsers` is false"));
            }
        }
    }
}

fn security_context(context: &Field, errors: &mut Vec<FieldError>) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        containers::user_id(&context.get(key), errors);
    }
    for group in context.items("supplementalGroups") {
        containers::user_id(&group, errors);
    }
    context
        .get("fsGroupChangePolicy")
        .one_of_if_set(&["Always", "OnRootMismatch"], errors);
    context
        .get("supplementalGroupsPolicy")
        .one_of_if_set(&["Merge", "Strict"], errors);
    containers::profiles(context, errors);
    let mut seen = BTreeSet::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.get("name");
        if name.is_blank() {
            errors.push(name.required(""));
        } else if !seen.insert(name.text().replace('/', ".")) {
            errors.push(name.duplicate());
        }
    }
}

/// Names by which the pod is known.
fn identity(spec: &Field, errors: &mut Vec<FieldError>) {
    for (key, rule) in [
        (
            "serviceAccountName",
            names::is_dns_subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", names::is_dns_subdomain),
        ("hostname", names::is_dns_label),
        ("subdomain", names::is_dns_label),
        ("priorityClassName", names::is_dns_subdomain),
        ("runtimeClassName", names::is_dns_subdomain),
    ] {
        let field = spec.get(key);
        if !field.is_blank() {
            errors.extend(field.invalid_each(rule(field.text())));
        }
    }
    if spec.get("schedulerName").is_blank() {
        errors.push(spec.get("schedulerName").required(""));
    }
    for alias in spec.items("hostAliases") {
        let ip = alias.get("ip");
        errors.extend(ip.invalid_each(names::is_ip(ip.text())));
        for hostname in alias.items("hostnames") {
            errors.extend(hostname.invalid_each(names::is_dns_subdomain(hostname.text())));
        }
    }
    spec.get("preemptionPolicy")
        .one_of_if_set(&["Never", "PreemptLowerPriority"], errors);
    if spec.get("os").is_set() {
        spec.get("os.name").one_of(&["linux", "windows"], errors);
    }
}

fn limits(spec: &Field, errors: &mut Vec<FieldError>) {
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline.int() {
        errors.extend(deadline.invalid_each(names::in_range(seconds, 1, i64::from(i32::MAX))));
    }
    for (name, amount) in spec.entries("overhead") {
        errors.extend(amount.invalid_each(names::is_qualified_name(name)));
        if Quantity::from_json(amount.value).is_ok_and(|q| q.is_negative()) {
            errors.push(amount.invalid("must be greater than or equal to 0"));
        }
    }
    let resources = spec.get("resources");
    if resources.is_set() {
        containers::resources(&resources, errors);
    }
}

fn gates(spec: &Field, errors: &mut Vec<FieldError>) {
    for gate in spec.items("readinessGates") {
        let kind = gate.get("conditionType");
        errors.extend(kind.invalid_each(names::is_qualified_name(kind.text())));
    }
    let mut seen = BTreeSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.get("name");
        let named = Field::new(name.value, gate.path.clone());
        errors.extend(named.invalid_each(names::is_qualified_name(name.text())));
        if !seen.insert(name.text()) {
            errors.push(named.duplicate());
        }
    }
    let node = spec.get("nodeName");
    if !seen.is_empty() && !node.is_blank() {
        errors.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
    }
}
