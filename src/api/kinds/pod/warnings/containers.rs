//! Warnings about containers: variables that hide others, ports that are in each other's way, annotations in place of
//! fields, fractions of bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::annotations::{SECCOMP_INSTEAD, annotation};
use crate::kinds::warnings;
use crate::value::{Field, has};

/// Resources that are counted in bytes.
pub const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const APPARMOR_INSTEAD: &str = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;

/// Warnings about all containers of a template, or of a pod.
pub fn check(template: &Field, said: &mut Vec<String>) {
    let spec = template.get("spec");
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let all: Vec<Field> = lists.iter().flat_map(|list| spec.items(list)).collect();
    let confined = has(spec.value, "securityContext.appArmorProfile");
    for container in &all {
        let name = container.get("name").text();
        if !has(container.value, "securityContext.seccompProfile") {
            annotation(template, &format!("{SECCOMP}{name}"), SECCOMP_INSTEAD, said);
        }
        if !confined && !has(container.value, "securityContext.appArmorProfile") {
            annotation(template, &format!("{APPARMOR}{name}"), APPARMOR_INSTEAD, said);
        }
        for key in ["resources.limits", "resources.requests"] {
            warnings::fractions(container, key, &BYTES, said);
        }
        hidden_variables(container, said);
    }
    ports(&all, said);
    port_names(&all, said);
}

/// Variables that are set twice; the second value may build on the first.
fn hidden_variables(container: &Field, said: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for variable in container.items("env") {
        let (name, value) = (variable.get("name").text(), variable.get("value").text());
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let builds_on_it = value.contains(&reference) && value != reference;
        if variable.get("valueFrom").is_set() || !builds_on_it {
            said.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}

/// Ports of the same number and protocol, whichever container they are of.
fn ports(containers: &[Field], said: &mut Vec<String>) {
    let mut seen: BTreeMap<(i64, &str), Vec<Field>> = BTreeMap::new();
    for port in containers.iter().flat_map(|container| container.items("ports")) {
        let (ip, host) = host_of(&port);
        if !ip.is_empty() && host == 0 {
            said.push(format!(
                "{}: hostIP set without hostPort: {}",
                port.path,
                shown(&port)
            ));
        }
        let number = port.get("containerPort").int().unwrap_or(0);
        let others = seen.entry((number, port.get("protocol").text())).or_default();
        for other in others.iter() {
            if let Some(how) = meet(host_of(&port), host_of(other)) {
                said.push(format!(
                    "{}: {how} port definition with {}",
                    port.path, other.path
                ));
            }
        }
        others.push(port);
    }
}

fn host_of<'v>(port: &Field<'v>) -> (&'v str, i64) {
    (port.get("hostIP").text(), port.get("hostPort").int().unwrap_or(0))
}

/// How two definitions of one port are in each other's way, if they are.
fn meet(one: (&str, i64), other: (&str, i64)) -> Option<&'static str> {
    if one == other {
        Some("duplicate")
    } else if one.1 == 0 || other.1 == 0 {
        Some("overlapping")
    } else if one.1 == other.1 && one.0.is_empty() != other.0.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// A port as Go prints it.
fn shown(port: &Field) -> String {
    let zero = json!(0);
    let number = |key: &str| port.value.get(key).unwrap_or(&zero).to_string();
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        port.get("name").text(),
        number("hostPort"),
        number("containerPort"),
        port.get("protocol").text(),
        port.get("hostIP").text()
    )
}

/// Ports of several containers that have the same name: whoever asks by name gets the first.
fn port_names(containers: &[Field], said: &mut Vec<String>) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for port in containers.iter().flat_map(|container| container.items("ports")) {
        let name = port.get("name").text();
        match seen.get(name) {
            _ if name.is_empty() => {}
            Some(first) => said.push(format!(
                "{}: duplicate port name {name:?} with {first}, services and probes that select ports by name will \
                 use {first}",
                port.path
            )),
            None => drop(seen.insert(name, port.path)),
        }
    }
}
