//! Rules for where a volume comes from: what pods and PersistentVolumes have in common.

use super::paths::{descending_path, no_backsteps};
use crate::kinds::csi_driver;
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Which fields a source needs: its key, the key in the paths of its errors, and the fields.
type Needs = (&'static str, &'static str, &'static [&'static str]);

const NEEDS: [Needs; 20] = [
    ("gitRepo", "gitRepo", &["repository"]),
    ("gcePersistentDisk", "persistentDisk", &["pdName"]),
    ("awsElasticBlockStore", "awsElasticBlockStore", &["volumeID"]),
    ("nfs", "nfs", &["server", "path"]),
    ("iscsi", "iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", "glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", "persistentVolumeClaim", &["claimName"]),
    ("rbd", "rbd", &["monitors", "image"]),
    ("cinder", "cinder", &["volumeID"]),
    ("cephfs", "cephfs", &["monitors"]),
    ("flexVolume", "flexVolume", &["driver"]),
    ("azureFile", "azureFile", &["secretName", "shareName"]),
    ("azureDisk", "azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", "vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", "photonPersistentDisk", &["pdID"]),
    ("portworxVolume", "portworxVolume", &["volumeID"]),
    ("scaleIO", "scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", "storageos", &["volumeName"]),
    ("quobyte", "quobyte", &["volume"]),
    ("local", "local", &["path"]),
];

/// The sources in the order in which Kubernetes looks for them: the first that is set counts.
const ORDER: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "local",
    "csi",
    "ephemeral",
    "image",
];

/// The keys of the sources of a volume, that is, of all that is set but is not one of `others`.
pub fn of<'a>(volume: &Field<'a>, others: &[&str]) -> Vec<&'a str> {
    let all = volume.value.as_object().into_iter().flatten();
    let set = all.filter(|(key, value)| !others.contains(&key.as_str()) && !value.is_null());
    let mut keys: Vec<&str> = set.map(|(key, _)| key.as_str()).collect();
    keys.sort_by_key(|key| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    keys
}

/// Rules for the source `key` of a volume, whether a pod's or a PersistentVolume's.
pub fn check(holder: &Field, key: &str, errors: &mut Vec<FieldError>) {
    let source = holder.get(key);
    let needs = NEEDS.iter().find(|(name, _, _)| *name == key);
    let shown = needs.map_or(key, |(_, shown, _)| shown);
    let at = Field::new(source.value, holder.path_of(shown));
    if key == "quobyte" {
        registry(&at, errors);
    }
    for field in needs.map_or(&[][..], |(_, _, fields)| fields) {
        at.get(field).needed(errors);
    }
    match key {
        "hostPath" => host_path(&at, errors),
        "local" => no_backsteps(&at.get("path"), errors),
        "nfs" if !at.get("path").text().starts_with('/') => {
            errors.push(at.get("path").invalid("must be an absolute path"));
        }
        "gitRepo" => descending_path(&at.get("directory"), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => number(&at.get("partition"), 0, 1, errors),
        "iscsi" => iscsi(&at, errors),
        "fc" => fibre(&at, errors),
        "flocker" => flocker(&at, errors),
        "flexVolume" => reserved_options(&at, errors),
        "azureDisk" => azure_disk(&at, errors),
        "storageos" => storage_os(&at, errors),
        _ => {}
    }
}

/// `from` to 255; the text may begin elsewhere, as Kubernetes' does.
fn number(at: &Field, from: i64, said: i64, errors: &mut Vec<FieldError>) {
    if at.int().is_some_and(|n| !(from..=255).contains(&n)) {
        errors.push(at.invalid(format!("must be between {said} and 255, inclusive")));
    }
}

fn host_path(at: &Field, errors: &mut Vec<FieldError>) {
    let path = at.get("path");
    if !path.needed(errors) {
        return;
    }
    no_backsteps(&path, errors);
    at.get("type").one_of_if_set(
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
        errors,
    );
}

fn iscsi(at: &Field, errors: &mut Vec<FieldError>) {
    let iqn = at.get("iqn");
    if !iqn.is_blank() {
        initiator(&iqn, &iqn.path, errors);
    }
    number(&at.get("lun"), 0, 0, errors);
    let authenticated = at.get("chapAuthDiscovery").flag() || at.get("chapAuthSession").flag();
    if authenticated && !at.get("secretRef").is_set() {
        errors.push(at.get("secretRef").required(""));
    }
    let name = at.get("initiatorName");
    if name.is_set() {
        initiator(&name, &at.path_of("initiatorname"), errors);
    }
}

/// An iSCSI qualified name, an EUI-64 or an NAA identifier.
fn initiator(name: &Field, path: &str, errors: &mut Vec<FieldError>) {
    let text = name.text();
    let alphanumeric = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_alphanumeric());
    let why = match text.get(..3) {
        Some("iqn") if !is_iqn(text) => "must be valid format",
        Some("eui") if !alphanumeric(text.get(4..).unwrap_or(""), 16) => "must be valid format",
        Some("naa") if !alphanumeric(text.get(4..).unwrap_or(""), 32) => "must be valid format",
        Some("iqn" | "eui" | "naa") => return,
        _ => "must be valid format starting with iqn, eui, or naa",
    };
    errors.push(FieldError::invalid(path, text, why));
}

/// `iqn.2001-04.com.example:storage`.
fn is_iqn(text: &str) -> bool {
    let Some((head, target)) = text.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let mut parts = head.splitn(2, '.');
    let (date, authority) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let dated = date.len() == 7
        && date
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() });
    let named = !authority.is_empty()
        && authority
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let bad = |c: char| c.is_whitespace() || ",;*&$|".contains(c);
    dated && named && !target.is_empty() && !target.contains(bad)
}

fn fibre(at: &Field, errors: &mut Vec<FieldError>) {
    let (names, ids, lun) = (at.get("targetWWNs"), at.get("wwids"), at.get("lun"));
    if names.is_blank() && ids.is_blank() {
        errors.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if names.is_blank() {
        return;
    }
    if !ids.is_blank() {
        errors.push(names.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if lun.is_set() {
        number(&lun, 0, 0, errors);
    } else {
        errors.push(lun.required("lun is required if targetWWNs is specified"));
    }
}

fn flocker(at: &Field, errors: &mut Vec<FieldError>) {
    let (name, id) = (at.get("datasetName"), at.get("datasetUUID"));
    if name.is_blank() && id.is_blank() {
        errors.push(at.required("one of datasetName and datasetUUID is required"));
    }
    if !name.is_blank() && !id.is_blank() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(&at.path, "resource", why));
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn registry(at: &Field, errors: &mut Vec<FieldError>) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (at.get("registry"), at.get("tenant"));
    if registry.is_blank() {
        errors.push(registry.required(WHY));
    } else if tenant.text().len() > 64 {
        errors.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let wrong = registry.text().split(',').filter(|pair| !pair.contains(':'));
        errors.extend(wrong.map(|_| registry.invalid(WHY)));
    }
}

fn reserved_options(at: &Field, errors: &mut Vec<FieldError>) {
    for (key, option) in at.entries("options") {
        let domain = key.split_once('/').map_or(key, |(domain, _)| domain);
        let dotted = format!(".{}", domain.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&option.path, key, why));
        }
    }
}

fn azure_disk(at: &Field, errors: &mut Vec<FieldError>) {
    at.get("cachingMode")
        .one_of_if_set(&["None", "ReadOnly", "ReadWrite"], errors);
    let (kind, uri) = (at.get("kind"), at.get("diskURI"));
    kind.one_of_if_set(&["Dedicated", "Managed", "Shared"], errors);
    let (prefix, form) = match kind.text() {
        "" => return,
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !uri.text().starts_with(prefix) {
        errors.push(uri.not_supported(&[form]));
    }
}

fn storage_os(at: &Field, errors: &mut Vec<FieldError>) {
    for key in ["volumeName", "volumeNamespace"] {
        let name = at.get(key);
        if !name.is_blank() {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
    }
}

/// Rules for the reference of a PersistentVolume to a secret.
pub fn secret(reference: &Field, errors: &mut Vec<FieldError>) {
    if !reference.is_set() {
        return;
    }
    let (name, namespace) = (reference.get("name"), reference.get("namespace"));
    if name.needed(errors) {
        errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
    }
    if namespace.needed(errors) {
        errors.extend(namespace.invalid_each(names::is_dns_label(namespace.text())));
    }
}

/// Rules for a pod's own CSI volume.
pub fn csi(at: &Field, errors: &mut Vec<FieldError>) {
    csi_driver::driver_name(&at.get("driver"), errors);
    let secret = at.get("nodePublishSecretRef");
    let name = secret.get("name");
    if secret.is_set() && name.needed(errors) {
        // Kubernetes' path is that of the volume's own name.
        let wrong = Field::new(name.value, at.path_of("name"));
        errors.extend(wrong.invalid_each(names::is_dns_subdomain(name.text())));
    }
}
