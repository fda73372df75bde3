//! Rules for status writes to a pod.

use serde_json::{Value, json};

use crate::names;
use crate::status::FieldError;
use crate::value::{Field, get, get_mut, has, int, list, set, text};

/// `podIP` is the first of `podIPs`; a writer may give either.
pub fn align_pod_ips(new: &mut Value, old: &Value) {
    for (single, many) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let Some(status) = get_mut(new, "status") else {
            return;
        };
        let first = list(status, many).first().map(|ip| text(ip, "ip").to_owned());
        let one = text(status, single).to_owned();
        let before = text(get(old, "status"), single);
        match first {
            None if !one.is_empty() => set(status, many, json!([{"ip": one}])),
            Some(first) if one.is_empty() => set(status, single, first),
            // Only the single address was changed, by a writer that does not know the list.
            Some(first) if first != one && first == before => set(status, many, json!([{"ip": one}])),
            _ => {}
        }
    }
}

/// Rules for a status write.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(new, "status");
    let nominated = status.get("nominatedNodeName");
    if !nominated.is_blank() {
        errors.extend(nominated.invalid_each(names::is_dns_subdomain(nominated.text())));
    }
    for condition in status.items("conditions") {
        let kind = condition.get("type");
        let at = Field::new(kind.value, kind.path.clone());
        if kind.text().contains('/') {
            errors.extend(at.invalid_each(names::is_qualified_name(kind.text())));
        }
    }
    addresses(&status, "podIPs", &mut errors);
    let first = status.get("hostIPs").value.get(0).map_or("", |ip| text(ip, "ip"));
    if !first.is_empty() && first != status.get("hostIP").text() {
        let path = "status.hostIPs[0].ip";
        errors.push(FieldError::invalid(path, first, "must be equal to `hostIP`"));
    }
    addresses(&status, "hostIPs", &mut errors);
    transitions(&status, old, "containerStatuses", "containers", &mut errors);
    transitions(
        &status,
        old,
        "initContainerStatuses",
        "initContainers",
        &mut errors,
    );
    errors
}

/// Addresses of a pod or its host: one of each family.
fn addresses(status: &Field, key: &str, errors: &mut Vec<FieldError>) {
    let all = status.items(key);
    let mut seen = Vec::new();
    for ip in &all {
        // Kubernetes' path is that of the entry.
        let at = Field::new(ip.get("ip").value, &ip.path);
        errors.extend(at.invalid_each(names::is_ip(at.text())));
        if seen.contains(&at.text()) {
            errors.push(ip.duplicate());
        }
        seen.push(at.text());
    }
    let is_ipv6 = |ip: &&str| ip.contains(':');
    let six = seen.iter().copied().filter(|ip| is_ipv6(ip)).count();
    if six > 1 || seen.len() - six > 1 {
        let why = "may specify no more than one IP for each IP family";
        errors.push(status.get(key).invalid(why));
    }
}

/// A container that has ended and must not restart stays ended.
fn transitions(status: &Field, old: &Value, statuses: &str, specs: &str, errors: &mut Vec<FieldError>) {
    let policy = text(old, "spec.restartPolicy");
    if policy == "Always" {
        return;
    }
    for before in list(get(old, "status"), statuses) {
        let name = text(before, "name");
        let spec = list(get(old, "spec"), specs)
            .iter()
            .find(|c| text(c, "name") == name);
        let own = spec.map_or("", |c| text(c, "restartPolicy"));
        let restartable = !own.is_empty() || spec.is_some_and(|c| has(c, "restartPolicyRules"));
        let ended = has(before, "state.terminated");
        let failed = int(before, "state.terminated.exitCode").unwrap_or(0) != 0;
        if !ended || restartable || (failed && policy == "OnFailure") {
            continue;
        }
        let now = status
            .items(statuses)
            .into_iter()
            .find(|s| s.get("name").text() == name);
        if let Some(now) = now
            && !now.get("state.terminated").is_set()
        {
            errors.push(
                now.get("state")
                    .forbidden("may not be transitioned to non-terminated state"),
            );
        }
    }
}
