//! As whom containers run, and what they may do beyond that.

use std::collections::BTreeSet;

use api::value;
use serde_json::Value;

use super::subject::{Subject, Violation, containers, quoted, setters};

pub fn privileged(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let bad = subject.bad(|container| value::flag(container, "securityContext.privileged"));
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers(&bad)
    );
    Violation::new("privileged", detail)
}

/// Pods for Windows cannot say so; newer versions know.
const KNOWS_WINDOWS: u32 = 25;
/// Pods with users of their own may do more from this version on.
const KNOWS_USERS: u32 = 35;

pub fn escalation(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= KNOWS_WINDOWS && subject.is_windows() {
        return None;
    }
    let allowed = |container: &Value| {
        value::get(container, "securityContext.allowPrivilegeEscalation").as_bool() == Some(false)
    };
    let bad = subject.bad(|container| !allowed(container));
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers(&bad)
    );
    Violation::new("allowPrivilegeEscalation != false", detail)
}

/// What containers have anyway.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn listed<'a>(container: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    let path = format!("securityContext.capabilities.{list}");
    value::list(container, &path).iter().filter_map(Value::as_str)
}

/// Which containers add capabilities that they may not, and that.
fn adding(subject: &Subject<'_>, allowed: &[&str]) -> Option<String> {
    let wrong = |container| listed(container, "add").filter(|name| !allowed.contains(name));
    let bad = subject.bad(|container| wrong(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    let found: BTreeSet<&str> = subject.containers().flat_map(wrong).collect();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&bad),
        quoted(found)
    ))
}

pub fn capabilities_baseline(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    Violation::new("non-default capabilities", adding(subject, &CAPABILITIES)?)
}

pub fn capabilities_restricted(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= KNOWS_WINDOWS && subject.is_windows() {
        return None;
    }
    let keeping = subject.bad(|container| !listed(container, "drop").any(|name| name == "ALL"));
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    details.extend(adding(subject, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

pub fn non_root(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= KNOWS_USERS && subject.has_own_users() {
        return None;
    }
    let said = |holder: &Value| value::get(holder, "securityContext.runAsNonRoot").as_bool();
    let pod = said(subject.spec);
    let who = setters(
        pod == Some(false),
        &subject.bad(|container| said(container) == Some(false)),
    );
    if !who.is_empty() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Violation::new("runAsNonRoot != true", detail);
    }
    let silent = subject.bad(|container| said(container).is_none());
    if pod == Some(true) || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&silent)
    );
    Violation::new("runAsNonRoot != true", detail)
}

pub fn user(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= KNOWS_USERS && subject.has_own_users() {
        return None;
    }
    let root = |holder: &Value| value::int(holder, "securityContext.runAsUser") == Some(0);
    let who = setters(root(subject.spec), &subject.bad(root));
    if who.is_empty() {
        return None;
    }
    Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
