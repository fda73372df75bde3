//! By what the kernel confines containers: seccomp, AppArmor, SELinux, what is hidden of `/proc`.

use std::collections::BTreeSet;

use api::object;
use api::value;
use serde_json::Value;

use super::subject::{Subject, Violation, containers, plural, quoted, setters, wrong};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn is_profile(name: &str) -> bool {
    matches!(name, "RuntimeDefault" | "Localhost")
}

/// The pod's annotations.
fn annotations<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let all = object::get_map(subject.metadata, &["annotations"]).iter();
    all.filter_map(|(key, text)| Some((key.as_str(), text.as_str()?)))
}

pub fn app_armor(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let found = wrong(subject, "appArmorProfile.type", is_profile);
    let usual = |text: &str| matches!(text, "" | "runtime/default") || text.starts_with("localhost/");
    let noted: BTreeSet<String> = annotations(subject)
        .filter(|(key, text)| key.starts_with(APP_ARMOR) && !usual(text))
        .map(|(key, text)| format!("{key}={text:?}"))
        .collect();
    let mut who: Vec<String> = Some(setters(found.pod, &found.containers))
        .filter(|who| !who.is_empty())
        .into_iter()
        .collect();
    if !noted.is_empty() {
        who.push(plural("annotation", "annotations", noted.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let count = found.values.len() + noted.len();
    let values = found.values.into_iter().chain(noted.iter().map(String::as_str));
    Violation::new(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", count),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values)
        ),
    )
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// The first version in which seccomp is a field.
const SECCOMP_FIELD: u32 = 19;

pub fn seccomp_baseline(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor < SECCOMP_FIELD {
        return seccomp_annotations(subject);
    }
    seccomp_wrong(subject)
}

fn seccomp_wrong(subject: &Subject<'_>) -> Option<Violation> {
    let found = wrong(subject, "seccompProfile.type", is_profile);
    let who = setters(found.pod, &found.containers);
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{who} must not set securityContext.seccompProfile.type to {}",
        quoted(found.values)
    );
    Violation::new("seccompProfile", detail)
}

fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    let usual =
        |text: &str| matches!(text, "runtime/default" | "docker/default") || text.starts_with("localhost/");
    let names: BTreeSet<String> = subject
        .containers()
        .map(|container| format!("{SECCOMP_CONTAINER}{}", value::text(container, "name")))
        .collect();
    let found: BTreeSet<String> = annotations(subject)
        .filter(|(key, text)| (*key == SECCOMP_POD || names.contains(*key)) && !usual(text))
        .map(|(key, text)| format!("{key}={text:?}"))
        .collect();
    if found.is_empty() {
        return None;
    }
    let noun = plural("annotation", "annotations", found.len());
    let found: Vec<String> = found.into_iter().collect();
    Violation::new("seccompProfile", format!("forbidden {noun} {}", found.join(", ")))
}

pub fn seccomp_restricted(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && subject.is_windows() {
        return None;
    }
    if let Some(violation) = seccomp_wrong(subject) {
        return Some(violation);
    }
    let silent = |holder: &Value| !value::has(holder, "securityContext.seccompProfile");
    let bad = subject.bad(silent);
    if !silent(subject.spec) || bad.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&bad)
    );
    Violation::new("seccompProfile", detail)
}

pub fn proc_mount(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let found = wrong(subject, "procMount", |mount| mount == "Default");
    if found.containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&found.containers),
        quoted(found.values)
    );
    Violation::new("procMount", detail)
}

pub fn proc_mount_baseline(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 35 && subject.has_own_users() {
        return None;
    }
    proc_mount(subject, minor)
}

pub fn se_linux(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    let allowed = |name: &str| match name {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => minor >= 31,
        _ => false,
    };
    let set = |holder: &Value, key: &str| !value::text(holder, &se_linux_path(key)).is_empty();
    let bad = |holder: &Value| {
        !allowed(value::text(holder, &se_linux_path("type"))) || set(holder, "user") || set(holder, "role")
    };
    let who = setters(bad(subject.spec), &subject.bad(bad));
    if who.is_empty() {
        return None;
    }
    let types = wrong(subject, "seLinuxOptions.type", allowed).values;
    let mut details = Vec::new();
    if !types.is_empty() {
        let noun = plural("type", "types", types.len());
        details.push(format!("{noun} {}", quoted(types)));
    }
    for key in ["user", "role"] {
        if set(subject.spec, key) || subject.containers().any(|container| set(container, key)) {
            details.push(format!("{key} may not be set"));
        }
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        details.join("; ")
    );
    Violation::new("seLinuxOptions", detail)
}

fn se_linux_path(key: &str) -> String {
    format!("securityContext.seLinuxOptions.{key}")
}
