//! Rules for containers, init containers and ephemeral containers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{environment, probes, volumes};
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::Field;

/// Which of the three lists a container is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    Init,
    Sidecar,
    Ephemeral,
}

/// Rules for all containers of a pod; `volumes` are the names they may mount.
pub fn check(spec: &Field, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let mains = spec.items("containers");
    if mains.is_empty() {
        errors.push(spec.get("containers").required(""));
    }
    let grace = spec.get("terminationGracePeriodSeconds").int();
    let mut seen = BTreeSet::new();
    for container in mains {
        one(&container, Role::Main, volumes, grace, errors);
        unique(&container, &mut seen, errors);
        let policy = container.get("restartPolicy");
        policy.one_of_if_set(&["Always", "Never", "OnFailure"], errors);
    }
    host_ports(spec, errors);
    for container in spec.items("initContainers") {
        let sidecar = container.get("restartPolicy").text() == "Always";
        let role = if sidecar { Role::Sidecar } else { Role::Init };
        one(&container, role, volumes, grace, errors);
        unique(&container, &mut seen, errors);
        if role == Role::Init {
            no_probes(
                &container,
                "may not be set for init containers without restartPolicy=Always",
                errors,
            );
        }
        container
            .get("restartPolicy")
            .one_of_if_set(&["Always", "Never", "OnFailure"], errors);
    }
    for container in spec.items("ephemeralContainers") {
        one(&container, Role::Ephemeral, volumes, grace, errors);
        unique(&container, &mut seen, errors);
        let target = container.get("targetContainerName");
        let known = |list: &str| {
            spec.items(list)
                .iter()
                .any(|c| c.get("name").text() == target.text())
        };
        if !target.is_blank() && !known("containers") && !known("initContainers") {
            errors.push(target.not_found());
        }
        no_probes(&container, "cannot be set for an Ephemeral Container", errors);
        for key in ["ports", "resources.limits", "resources.requests"] {
            let field = container.get(key);
            if !field.is_blank() {
                let whole = container.get(key.split('.').next().unwrap_or(key));
                errors.push(whole.forbidden("cannot be set for an Ephemeral Container"));
            }
        }
    }
}

fn unique<'a>(container: &Field<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    let name = container.get("name");
    if !name.is_blank() && !seen.insert(name.text()) {
        errors.push(name.duplicate());
    }
}

fn no_probes(container: &Field, why: &str, errors: &mut Vec<FieldError>) {
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.get(key);
        if field.is_set() {
            errors.push(field.forbidden(why));
        }
    }
}

fn one(
    container: &Field,
    role: Role,
    volumes: &BTreeSet<String>,
    grace: Option<i64>,
    errors: &mut Vec<FieldError>,
) {
    let name = container.get("name");
    if name.is_blank() {
        errors.push(name.required(""));
    } else {
        errors.extend(name.invalid_each(names::is_dns_label(name.text())));
    }
    image(&container.get("image"), errors);
    let policy = container.get("terminationMessagePolicy");
    policy.one_of(&["FallbackToLogsOnError", "File"], errors);
    ports(container, errors);
    environment::check(container, errors);
    volumes::mounts(container, volumes, errors);
    container
        .get("imagePullPolicy")
        .one_of(&["Always", "IfNotPresent", "Never"], errors);
    resources(&container.get("resources"), errors);
    resize_policy(container, errors);
    security_context(&container.get("securityContext"), errors);
    if matches!(role, Role::Main | Role::Sidecar) {
        probes::check(container, grace, errors);
    }
}

/// Rules for an image's reference.
pub fn image(image: &Field, errors: &mut Vec<FieldError>) {
    let text = image.text();
    if text.is_empty() {
        errors.push(image.required(""));
    } else if text.trim() != text {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn ports(container: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for port in container.items("ports") {
        let name = port.get("name");
        if !name.is_blank() {
            let wrong = names::is_port_name(name.text());
            let fine = wrong.is_empty();
            errors.extend(name.invalid_each(wrong));
            if fine && !seen.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.get("containerPort");
        match number.int().unwrap_or(0) {
            0 => errors.push(number.required("")),
            n => errors.extend(number.invalid_each(names::is_port_number(n))),
        }
        let host = port.get("hostPort");
        if let Some(n) = host.int().filter(|n| *n != 0) {
            errors.extend(host.invalid_each(names::is_port_number(n)));
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
    }
}

/// No two containers of a pod may take one host port; with the host's network, host and container port agree.
fn host_ports(spec: &Field, errors: &mut Vec<FieldError>) {
    let host_network = spec.get("hostNetwork").flag();
    let mut seen = BTreeSet::new();
    for container in spec.items("containers") {
        for port in container.items("ports") {
            let host = port.get("hostPort");
            let number = host.int().unwrap_or(0);
            if host_network && number != port.get("containerPort").int().unwrap_or(0) {
                let at = container.path_of("ports");
                let index = port.path.strip_prefix(&at).unwrap_or("").to_owned();
                errors.push(FieldError::invalid(
                    format!("{at}{index}.containerPort"),
                    port.get("containerPort").value.clone(),
                    "must match `hostPort` when `hostNetwork` is true",
                ));
            }
            let key = (number, port.get("hostIP").text(), port.get("protocol").text());
            if number != 0 && !seen.insert(key) {
                let shown = format!("{}/{}/{number}", key.2, key.1);
                errors.push(FieldError::duplicate(&host.path, shown));
            }
        }
    }
}

/// Rules for requests and limits.
pub fn resources(resources: &Field, errors: &mut Vec<FieldError>) {
    let limits = amounts(resources, "limits", errors);
    let requests = amounts(resources, "requests", errors);
    for (name, request) in requests {
        let exact = name.starts_with("hugepages-") || !is_native(name);
        let why = match limits.get(name) {
            None if exact => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(resources.path_of("limits"), why));
                continue;
            }
            Some(limit) if exact && request != *limit => format!("must be equal to {name} limit of {limit}"),
            Some(limit) if request > *limit => {
                format!("must be less than or equal to {name} limit of {limit}")
            }
            _ => continue,
        };
        errors.push(FieldError::invalid(
            resources.path_of("requests"),
            request.to_string(),
            why,
        ));
    }
}

/// Whether a resource is one of Kubernetes' own; others cannot be overcommitted.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn amounts<'a>(
    resources: &Field<'a>,
    key: &str,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<&'a str, Quantity> {
    const KNOWN: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
    let mut all = BTreeMap::new();
    for (name, amount) in resources.entries(key) {
        let named = Field::new(amount.value, amount.path.clone());
        for why in names::is_qualified_name(name) {
            errors.push(FieldError::invalid(&named.path, name, why));
        }
        if !name.contains('/') && !KNOWN.contains(&name) && !name.starts_with("hugepages-") {
            errors.push(FieldError::invalid(
                &named.path,
                name,
                "must be a standard resource type or fully qualified",
            ));
            errors.push(FieldError::invalid(
                &named.path,
                name,
                "must be a standard resource for containers",
            ));
        }
        match Quantity::from_json(amount.value) {
            Ok(quantity) => {
                if quantity.is_negative() {
                    errors.push(FieldError::invalid(
                        &amount.path,
                        quantity.to_string(),
                        "must be greater than or equal to 0",
                    ));
                }
                if !is_native(name) && !quantity.is_whole() {
                    errors.push(FieldError::invalid(
                        &amount.path,
                        quantity.to_string(),
                        "must be an integer",
                    ));
                }
                all.insert(name, quantity);
            }
            Err(why) => errors.push(amount.invalid(why.to_string())),
        }
    }
    all
}

fn resize_policy(container: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for policy in container.items("resizePolicy") {
        let name = policy.get("resourceName");
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(
                container.path_of("resizePolicy"),
                name.value.clone(),
            ));
        }
        let at = Field::new(name.value, container.path_of("resizePolicy"));
        at.one_of(&["cpu", "memory"], errors);
        let restart = policy.get("restartPolicy");
        Field::new(restart.value, container.path_of("resizePolicy"))
            .one_of(&["NotRequired", "RestartContainer"], errors);
    }
}

fn security_context(context: &Field, errors: &mut Vec<FieldError>) {
    if !context.is_set() {
        return;
    }
    user_id(&context.get("runAsUser"), errors);
    user_id(&context.get("runAsGroup"), errors);
    context
        .get("procMount")
        .one_of_if_set(&["Default", "Unmasked"], errors);
    profiles(context, errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value == &Value::Bool(false) {
        let no = |why: &str| FieldError::invalid(&context.path, context.value.clone(), why);
        if context.get("privileged").flag() {
            errors.push(no(
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = context.items("capabilities.add");
        if added.iter().any(|c| c.text() == "CAP_SYS_ADMIN") {
            errors.push(no(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
}

/// Rules for a user or group number.
pub fn user_id(field: &Field, errors: &mut Vec<FieldError>) {
    if field
        .int()
        .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
    {
        errors.push(field.invalid(format!("must be between 0 and {}, inclusive", i32::MAX)));
    }
}

/// Rules for seccomp and AppArmor profiles.
pub fn profiles(context: &Field, errors: &mut Vec<FieldError>) {
    for key in ["seccompProfile", "appArmorProfile"] {
        let profile = context.get(key);
        if !profile.is_set() {
            continue;
        }
        let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
        kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], errors);
        if kind.text() == "Localhost" && local.is_blank() {
            errors.push(local.required("must be set when seccomp type is Localhost"));
        } else if kind.text() != "Localhost" && local.is_set() {
            errors.push(local.invalid("can only be set when seccomp type is Localhost"));
        }
    }
}
