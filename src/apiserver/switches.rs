//! Which versions of the API that is built in are served (`runtime-config`). Pure.
//!
//! Kubernetes' keys: `api/all`, then `api/ga`, `api/beta` and `api/alpha`, then `GROUP/VERSION`, then
//! `GROUP/VERSION/RESOURCE`; the later ones win. What is off is off for callers from outside: the server's own parts
//! go on reading and writing what they need.

use std::collections::{BTreeMap, BTreeSet};

use api::kind::Kind;
use api::kinds;

/// Group, version and plural.
type Path = (&'static str, &'static str, &'static str);

/// What a server was told.
#[derive(Clone, Debug, Default)]
pub struct Switches {
    /// Early versions that are on.
    early: Vec<&'static Kind>,
    /// Of the others, those that are off.
    off: BTreeSet<Path>,
}

impl Switches {
    /// Reads settings, each `KEY=true`, `KEY=false`, or `KEY` for true.
    ///
    /// # Errors
    /// Of a key that is none, a value that is none, or something that cannot be served here; the text says what can.
    pub fn parse(settings: &[String]) -> Result<Self, String> {
        let told: Result<BTreeMap<&str, bool>, String> =
            settings.iter().map(|setting| read(setting)).collect();
        let told = told?;
        if told.len() == 1 && told.get("api/all") == Some(&false) {
            return Err("invalid key with only api/all=false".to_owned());
        }
        told.keys().try_for_each(|key| known(key))?;
        let is_on = |kind: &Kind| is_on(&told, kind);
        let early = kinds::early().iter().copied().filter(|kind| is_on(kind));
        let off = kinds::all().iter().filter(|kind| !is_on(kind));
        Ok(Self {
            early: early.collect(),
            off: off.map(|kind| (kind.group, kind.version, kind.plural)).collect(),
        })
    }

    /// Early versions that are on.
    pub(crate) fn early(&self) -> &[&'static Kind] {
        &self.early
    }

    /// Whether that is off for callers from outside.
    pub(crate) fn is_off(&self, group: &str, version: &str, plural: &str) -> bool {
        self.off.contains(&(group, version, plural))
    }
}

fn read(setting: &str) -> Result<(&str, bool), String> {
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    let (key, value) = (key.trim(), value.trim());
    // The core group's version may be said in two ways.
    let key = if key == "api/v1" { "v1" } else { key };
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok((key, true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok((key, false)),
        _ => Err(format!(
            "invalid value of {key}: {value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
        )),
    }
}

fn is_on(told: &BTreeMap<&str, bool>, kind: &Kind) -> bool {
    let stage = stage(kind.version);
    let version = kind.api_version();
    let resource = format!("{version}/{}", kind.plural);
    let resources = format!("{version}/");
    // One resource of a version takes the version with it.
    let by_resource = told.iter().any(|(key, on)| *on && key.starts_with(&resources));
    let keys = [resource.as_str(), &version];
    let named = keys.into_iter().find_map(|key| told.get(key).copied());
    named
        .or(by_resource.then_some(true))
        .or_else(|| told.get(format!("api/{stage}").as_str()).copied())
        .or_else(|| told.get("api/all").copied())
        .unwrap_or(stage == "ga")
}

fn stage(version: &str) -> &'static str {
    match version {
        version if version.contains("alpha") => "alpha",
        version if version.contains("beta") => "beta",
        _ => "ga",
    }
}

/// Refuses a key that names nothing which can be switched.
fn known(key: &str) -> Result<(), String> {
    if matches!(key, "api/all" | "api/ga" | "api/beta" | "api/alpha") {
        return Ok(());
    }
    let parts: Vec<&str> = key.split('/').collect();
    let (group, version, plural) = match parts.as_slice() {
        ["v1"] => ("", "v1", None),
        ["v1", plural] => ("", "v1", Some(*plural)),
        ["api", ..] => return Err(format!("runtime-config invalid key {key}")),
        [group, version] => (*group, *version, None),
        [group, version, plural] => (*group, *version, Some(*plural)),
        _ => return Err(format!("runtime-config invalid key {key}")),
    };
    let all = || kinds::all().iter().chain(kinds::early());
    if !all().any(|kind| kind.group == group) {
        return Err(format!("unknown api groups {group}"));
    }
    let mut of_version = all().filter(|kind| (kind.group, kind.version) == (group, version));
    if of_version.any(|kind| plural.is_none_or(|plural| kind.plural == plural)) {
        return Ok(());
    }
    let early: BTreeSet<String> = kinds::early().iter().map(|kind| kind.api_version()).collect();
    let early: Vec<String> = early.into_iter().collect();
    Err(format!(
        "{key} is not known here, so it cannot be switched: what is served can be switched off, and {} can be \
         switched on",
        early.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[&str]) -> Result<Switches, String> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        Switches::parse(&settings)
    }

    fn early(settings: &[&str]) -> BTreeSet<String> {
        let read = parse(settings).unwrap();
        read.early().iter().map(|kind| kind.api_version()).collect()
    }

    #[test]
    fn early_versions_are_off_and_others_on_unless_told_otherwise() {
        let none = parse(&[]).unwrap();
        assert!(none.early().is_empty() && none.off.is_empty());
        assert_eq!(
            early(&["networking.k8s.io/v1beta1=true"]),
            BTreeSet::from(["networking.k8s.io/v1beta1".to_owned()])
        );
        assert_eq!(early(&["networking.k8s.io/v1beta1/ipaddresses"]).len(), 1);
        let beta = early(&["api/beta=true", "resource.k8s.io/v1beta2=false"]);
        assert!(beta.contains("storage.k8s.io/v1beta1"), "{beta:?}");
        assert!(
            !beta
                .iter()
                .any(|version| version.contains("alpha") || version.contains("v1beta2"))
        );
        let all = early(&["api/all=true"]);
        assert!(all.contains("admissionregistration.k8s.io/v1alpha1"), "{all:?}");
    }

    #[test]
    fn what_is_served_can_be_switched_off() {
        let read = parse(&["batch/v1=false", "v1/podtemplates=false", "autoscaling/v1=true"]).unwrap();
        assert!(read.is_off("batch", "v1", "jobs") && read.is_off("batch", "v1", "cronjobs"));
        assert!(read.is_off("", "v1", "podtemplates") && !read.is_off("", "v1", "pods"));
        let few = parse(&["api/all=false", "v1=true", "apps/v1/deployments=true"]).unwrap();
        assert!(!few.is_off("", "v1", "pods") && few.is_off("batch", "v1", "jobs"));
        // As in Kubernetes, a resource takes its version with it.
        assert!(!few.is_off("apps", "v1", "deployments") && !few.is_off("apps", "v1", "daemonsets"));
        let one = parse(&["apps/v1=false", "apps/v1/deployments=true"]).unwrap();
        assert!(!one.is_off("apps", "v1", "deployments") && one.is_off("apps", "v1", "daemonsets"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (setting, why) in [
            ("api/all=false", "invalid key with only api/all=false"),
            ("api/gamma=true", "runtime-config invalid key api/gamma"),
            ("batch=true", "runtime-config invalid key batch"),
            ("batch/v1=maybe", "invalid value of batch/v1: maybe"),
            ("batches/v1=true", "unknown api groups batches"),
            ("batch/v1/jobss=true", "batch/v1/jobss is not known here"),
        ] {
            let refused = parse(&[setting]).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
        let refused = parse(&["certificates.k8s.io/v1beta1=true"]).unwrap_err();
        assert!(
            refused.contains("resource.k8s.io/v1beta2, storage.k8s.io/v1beta1 can be switched on"),
            "{refused}"
        );
    }
}
