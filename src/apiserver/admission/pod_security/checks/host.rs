//! What pods may have of the machine they run on.

use std::collections::BTreeSet;

use api::value;
use serde_json::Value;

use super::subject::{Subject, Violation, containers, plural, quoted, setters};

pub fn namespaces(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|key| value::flag(subject.spec, key))
        .map(|key| format!("{key}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

pub fn ports(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let taken = |container| {
        let ports = value::list(container, "ports").iter();
        ports
            .filter_map(|port| value::int(port, "hostPort"))
            .filter(|port| *port != 0)
    };
    let bad = subject.bad(|container| taken(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    // Sorted as texts, as Kubernetes does.
    let ports: BTreeSet<String> = subject
        .containers()
        .flat_map(taken)
        .map(|port| port.to_string())
        .collect();
    let (uses, noun) = (
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", ports.len()),
    );
    let ports: Vec<String> = ports.into_iter().collect();
    Violation::new(
        "hostPort",
        format!("{} {uses} {noun} {}", containers(&bad), ports.join(", ")),
    )
}

/// The handlers through which a node calls a container.
const HANDLERS: [&str; 5] = [
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle.postStart",
    "lifecycle.preStop",
];

fn hosts(container: &Value) -> impl Iterator<Item = &str> {
    let ways = |handler| ["httpGet.host", "tcpSocket.host"].map(|way| value::text(handler, way));
    let handlers = HANDLERS.into_iter().map(|path| value::get(container, path));
    handlers.flat_map(ways).filter(|host| !host.is_empty())
}

pub fn probes(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let mut bad = subject.bad(|container| hosts(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    bad.sort_unstable();
    bad.dedup();
    let found: BTreeSet<&str> = subject.containers().flat_map(hosts).collect();
    let uses = plural("uses", "use", bad.len());
    let noun = plural("probe or lifecycle host", "probe or lifecycle hosts", found.len());
    let detail = format!("{} {uses} {noun} {}", containers(&bad), quoted(found));
    Violation::new("probe or lifecycle host", detail)
}

/// Sysctls that touch nobody else, each with the first version that knows it.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

pub fn sysctls(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    let known = |name: &str| {
        SYSCTLS
            .iter()
            .any(|(known, since)| *known == name && minor >= *since)
    };
    let set = value::list(subject.spec, "securityContext.sysctls").iter();
    let bad: Vec<&str> = set
        .map(|sysctl| value::text(sysctl, "name"))
        .filter(|name| !known(name))
        .collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

pub fn windows_process(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let is_host = |holder: &Value| value::flag(holder, "securityContext.windowsOptions.hostProcess");
    let who = setters(is_host(subject.spec), &subject.bad(is_host));
    if who.is_empty() {
        return None;
    }
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Violation::new("hostProcess", detail)
}
