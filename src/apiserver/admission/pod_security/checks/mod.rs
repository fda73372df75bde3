//! The Pod Security Standards: one function for each check, and the table of which of them a standard has.

mod host;
mod privileges;
mod profiles;
mod volumes;

use std::collections::BTreeSet;

use api::value;
use serde_json::Value;

use super::policy::{Level, Standard};

/// A pod, or the template of some, as checks look at it.
pub struct Subject<'a> {
    /// Its metadata.
    pub metadata: &'a Value,
    /// Its spec.
    pub spec: &'a Value,
}

impl<'a> Subject<'a> {
    /// All containers: init, main, ephemeral.
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let spec = self.spec;
        lists.into_iter().flat_map(move |list| value::list(spec, list))
    }

    /// The names of the containers that are not as they should be.
    fn bad(&self, is_bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers().filter(|container| is_bad(container));
        bad.map(|container| value::text(container, "name")).collect()
    }

    /// Whether its users are others on the node than inside.
    fn has_own_users(&self) -> bool {
        value::get(self.spec, "hostUsers").as_bool() == Some(false)
    }

    fn is_windows(&self) -> bool {
        value::text(self.spec, "os.name") == "windows"
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, the same for every pod of which it is.
    pub reason: String,
    /// Where, in this one.
    pub detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        let (reason, detail) = (reason.into(), detail.into());
        Some(Self { reason, detail })
    }
}

/// One check; it is given N of the 1.N whose rules count.
struct Check {
    level: Level,
    /// The first version that has it.
    since: u32,
    /// The first version in which `restricted` has a stricter one instead.
    replaced: u32,
    judge: fn(&Subject<'_>, u32) -> Option<Violation>,
}

const NEVER: u32 = u32::MAX;

const fn baseline(since: u32, replaced: u32, judge: fn(&Subject<'_>, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Baseline,
        since,
        replaced,
        judge,
    }
}

const fn restricted(since: u32, judge: fn(&Subject<'_>, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Restricted,
        since,
        replaced: NEVER,
        judge,
    }
}

/// In the order in which violations are named.
static CHECKS: [Check; 19] = [
    baseline(0, NEVER, profiles::app_armor),
    baseline(0, 22, privileges::capabilities_baseline),
    baseline(0, NEVER, host::namespaces),
    baseline(0, 0, volumes::host_path),
    baseline(0, NEVER, host::ports),
    baseline(34, NEVER, host::probes),
    baseline(0, NEVER, privileges::privileged),
    baseline(0, 35, profiles::proc_mount_baseline),
    baseline(0, NEVER, profiles::se_linux),
    baseline(0, 19, profiles::seccomp_baseline),
    baseline(0, NEVER, host::sysctls),
    baseline(0, NEVER, host::windows_process),
    restricted(8, privileges::escalation),
    restricted(22, privileges::capabilities_restricted),
    restricted(35, profiles::proc_mount),
    restricted(0, volumes::restricted),
    restricted(0, privileges::non_root),
    restricted(23, privileges::user),
    restricted(19, profiles::seccomp_restricted),
];

/// The newest version with rules of its own.
const NEWEST: u32 = 36;

/// Everything by which a pod breaks a standard.
pub fn violations(standard: Standard, subject: &Subject<'_>) -> Vec<Violation> {
    let minor = standard.version.minor().min(NEWEST);
    let counts = |check: &&Check| {
        let replaced = standard.level == Level::Restricted && minor >= check.replaced;
        check.level <= standard.level && minor >= check.since && !replaced
    };
    let checks = CHECKS.iter().filter(counts);
    checks.filter_map(|check| (check.judge)(subject, minor)).collect()
}

/// What is wrong and where, as one text.
pub fn details(violations: &[Violation]) -> String {
    let one = |v: &Violation| match v.detail.as_str() {
        "" => v.reason.clone(),
        detail => format!("{} ({detail})", v.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What is wrong, as one text.
pub fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|v| v.reason.as_str()).collect();
    reasons.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    quoted.join(", ")
}

/// `container "a"`, or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    let noun = plural("container", "containers", names.len());
    format!("{noun} {}", quoted(names.iter().copied()))
}

/// Who set something wrong: the pod, some containers, or both; empty for nobody.
fn setters(pod: bool, bad: &[&str]) -> String {
    let mut who: Vec<String> = Vec::new();
    if pod {
        who.push("pod".to_owned());
    }
    if !bad.is_empty() {
        who.push(containers(bad));
    }
    who.join(" and ")
}

/// A field of the pod's and of all containers' security contexts that has a wrong value somewhere.
struct Wrong<'a> {
    pod: bool,
    containers: Vec<&'a str>,
    values: BTreeSet<&'a str>,
}

/// Looks for a text of security contexts that is set, and not to what `allowed` knows.
fn wrong<'a>(subject: &Subject<'a>, path: &str, allowed: impl Fn(&str) -> bool) -> Wrong<'a> {
    let path = format!("securityContext.{path}");
    let mut values = BTreeSet::new();
    let mut judged = |holder: &'a Value| {
        let is = value::get(holder, &path).as_str().filter(|is| !allowed(is));
        values.extend(is);
        is.is_some()
    };
    let pod = judged(subject.spec);
    let bad = subject.containers().filter(|container| judged(container));
    let containers = bad.map(|container| value::text(container, "name")).collect();
    Wrong {
        pod,
        containers,
        values,
    }
}

#[cfg(test)]
mod tests;
