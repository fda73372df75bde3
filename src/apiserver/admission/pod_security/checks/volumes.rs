//! What pods may mount.

use std::collections::BTreeSet;

use api::value;
use serde_json::Value;

use super::subject::{Subject, Violation, plural, quoted};

/// Sources that `restricted` allows.
const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Sources by which others are named.
const OTHERS: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// `volume "a"`, or `volumes "a", "b"`.
fn volumes(bad: &[&Value]) -> String {
    let names = bad.iter().map(|volume| value::text(volume, "name"));
    format!("{} {}", plural("volume", "volumes", bad.len()), quoted(names))
}

fn which<'a>(subject: &Subject<'a>, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    let all = value::list(subject.spec, "volumes").iter();
    all.filter(|volume| is_bad(volume)).collect()
}

pub fn host_path(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let bad = which(subject, |volume| value::has(volume, "hostPath"));
    if bad.is_empty() {
        return None;
    }
    Violation::new("hostPath volumes", volumes(&bad))
}

pub fn restricted(subject: &Subject<'_>, _: u32) -> Option<Violation> {
    let bad = which(subject, |volume| {
        !ALLOWED.iter().any(|source| value::has(volume, source))
    });
    if bad.is_empty() {
        return None;
    }
    let source = |volume: &&Value| {
        let known = OTHERS.into_iter().find(|source| value::has(volume, source));
        known.unwrap_or("unknown")
    };
    let sources: BTreeSet<&str> = bad.iter().map(source).collect();
    let detail = format!(
        "{} {} {} {}",
        volumes(&bad),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", sources.len()),
        quoted(sources)
    );
    Violation::new("restricted volume types", detail)
}
