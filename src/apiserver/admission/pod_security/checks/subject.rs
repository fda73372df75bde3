//! What is looked at, and how what is wrong with it is said.

use std::collections::BTreeSet;

use api::value;
use serde_json::Value;

/// A pod, or the template of some, as checks look at it.
pub struct Subject<'a> {
    /// Its metadata.
    pub metadata: &'a Value,
    /// Its spec.
    pub spec: &'a Value,
}

impl<'a> Subject<'a> {
    /// All containers: init, main, ephemeral.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let spec = self.spec;
        lists.into_iter().flat_map(move |list| value::list(spec, list))
    }

    /// The names of the containers that are not as they should be.
    pub(super) fn bad(&self, is_bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers().filter(|container| is_bad(container));
        bad.map(|container| value::text(container, "name")).collect()
    }

    /// Whether its users are others on the node than inside.
    pub(super) fn has_own_users(&self) -> bool {
        value::get(self.spec, "hostUsers").as_bool() == Some(false)
    }

    pub(super) fn is_windows(&self) -> bool {
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
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        let (reason, detail) = (reason.into(), detail.into());
        Some(Self { reason, detail })
    }
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub(super) fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    quoted.join(", ")
}

/// `container "a"`, or `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    let noun = plural("container", "containers", names.len());
    format!("{noun} {}", quoted(names.iter().copied()))
}

/// Who set something wrong: the pod, some containers, or both; empty for nobody.
pub(super) fn setters(pod: bool, bad: &[&str]) -> String {
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
pub(super) struct Wrong<'a> {
    pub(super) pod: bool,
    pub(super) containers: Vec<&'a str>,
    pub(super) values: BTreeSet<&'a str>,
}

/// Looks for a text of security contexts that is set, and not to what `allowed` knows.
pub(super) fn wrong<'a>(subject: &Subject<'a>, path: &str, allowed: impl Fn(&str) -> bool) -> Wrong<'a> {
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
