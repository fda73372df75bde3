//! The Pod Security Standards: one function for each check, and the table of which of them a standard has.

mod host;
mod privileges;
mod profiles;
mod subject;
mod volumes;

use super::policy::{Level, Standard};
pub use subject::{Subject, Violation};

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

#[cfg(test)]
mod tests;
