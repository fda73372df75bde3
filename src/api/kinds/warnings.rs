//! What clients are told about objects that are in order, where several kinds hold the same: labels of nodes and
//! volumes that are deprecated, amounts of bytes with a fraction, addresses in odd forms (k/k `pkg/api`).

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use crate::cidr::Cidr;
use crate::names;
use crate::object;
use crate::quantity::Quantity;
use crate::value::{Field, get, has, text};

/// Labels of nodes that have gone out of use, and what to use instead.
const NODE_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
    ),
    (
        "beta.kubernetes.io/os",
        r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        r#"use "node-role.kubernetes.io/control-plane" instead"#,
    ),
];

/// Sources of volumes that have gone out of use: key, as the path shows it, since when.
const VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "gitRepo", "deprecated in v1.11"),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Where the class of a volume or claim was written before there was a field for it.
pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What to use instead of a node's label that has gone out of use.
pub fn node_label(key: &str) -> Option<&'static str> {
    let known = NODE_LABELS.iter().find(|(label, _)| *label == key);
    known.map(|(_, instead)| *instead)
}

/// A key of an expression about nodes that has gone out of use.
pub fn node_key(key: &Field, warnings: &mut Vec<String>) {
    if let Some(instead) = node_label(key.text()) {
        warnings.push(format!("{}: {} is {instead}", key.path, key.text()));
    }
}

/// A term that picks nodes; `values` says that its values are looked at, too, since no rule has done so.
pub fn node_term(term: &Field, values: bool, warnings: &mut Vec<String>) {
    for expression in term.items("matchExpressions") {
        node_key(&expression.get("key"), warnings);
        for value in expression.items("values").iter().filter(|_| values) {
            for why in names::is_label_value(value.text()) {
                warnings.push(format!("{}: {} is invalid, {why}", value.path, value.text()));
            }
        }
    }
}

/// A source of a volume that has gone out of use; `others` are those of which this kind says nothing.
pub fn volume_source(volume: &Field, others: &[&str], warnings: &mut Vec<String>) {
    for (key, shown, since) in VOLUMES {
        if has(volume.value, key) && !others.contains(&key) {
            warnings.push(format!("{}: {since}", volume.path_of(shown)));
        }
    }
}

fn fraction(at: &Field, warnings: &mut Vec<String>) {
    let amount = Quantity::from_json(at.value).ok();
    if let Some(amount) = amount.filter(|amount| !amount.is_whole()) {
        warnings.push(format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            at.path,
            amount.to_string()
        ));
    }
}

/// Amounts of bytes in a map of amounts that are not whole numbers.
pub fn fractions(holder: &Field, amounts: &str, names: &[&str], warnings: &mut Vec<String>) {
    for (name, amount) in holder.entries(amounts) {
        if names.contains(&name) {
            fraction(&amount, warnings);
        }
    }
}

/// A name that becomes part of host names, and is no DNS label.
pub fn name(object: &Value, used_in: &str) -> Vec<String> {
    let why = names::is_dns_label(text(object, "metadata.name"));
    if why.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is \
         recommended: [{}]",
        why.join(" ")
    )]
}

/// An annotation that has gone out of use.
pub fn annotation(object: &Value, key: &str, why: &str, warnings: &mut Vec<String>) {
    if object::annotation(object, key).is_some() {
        warnings.push(format!("metadata.annotations[{key}]: {why}"));
    }
}

/// Finalizers that are new and could be anybody's, in the order of their names.
pub fn finalizers(new: &Value, old: Option<&Value>) -> Vec<String> {
    const WHY: &str = "to avoid accidental conflicts with other finalizer writers";
    let before = old.map(object::finalizers).unwrap_or_default();
    let mut added = object::finalizers(new);
    added.retain(|name| !before.contains(name) && !name.contains('/') && !STANDARD_FINALIZERS.contains(name));
    added.sort_unstable();
    added.dedup();
    let warning = |name: &str| {
        let path = if name.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        format!("metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} {WHY}")
    };
    added.into_iter().map(warning).collect()
}

/// An address that is written otherwise than everybody does.
pub fn ip(at: &Field, warnings: &mut Vec<String>) {
    let (text, Ok(IpAddr::V6(address))) = (at.text(), at.text().parse()) else {
        return;
    };
    if let Some(plain) = address.to_ipv4_mapped() {
        warnings.push(format!(
            "{}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \
             {:?}",
            at.path,
            plain.to_string()
        ));
    } else if address.to_string() != text {
        warnings.push(format!(
            "{}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            at.path,
            address.to_string()
        ));
    }
}

/// A range of addresses that is written otherwise than everybody does, or may mean two things.
pub fn cidr(at: &Field, warnings: &mut Vec<String>) {
    let text = at.text();
    let Some((address, bits)) = parts(text) else {
        return;
    };
    let (plain, plain_bits) = match address {
        IpAddr::V6(mapped) => unmapped(mapped, bits),
        other => (other, bits),
    };
    let range = Cidr::new(plain, plain_bits);
    let before = warnings.len();
    if range.base() != plain {
        warnings.push(format!(
            "{}: CIDR value {text:?} is ambiguous in this context (should be {:?} or {:?}?)",
            at.path,
            range.to_string(),
            format!("{plain}/{}", range.width())
        ));
    }
    let padded = text.contains("/0") && !text.ends_with("/0");
    if plain != address || padded {
        warnings.push(format!(
            "{}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            at.path,
            range.to_string()
        ));
    }
    if warnings.len() == before && range.is_ipv6() && range.to_string() != text {
        warnings.push(format!(
            "{}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})",
            at.path,
            range.to_string()
        ));
    }
}

fn parts(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
    Some((address, bits))
}

/// An IPv4 address in the clothes of an IPv6 one, without them.
fn unmapped(address: Ipv6Addr, bits: u8) -> (IpAddr, u8) {
    match (address.to_ipv4_mapped(), bits.checked_sub(96)) {
        (Some(plain), Some(bits)) => (plain.into(), bits),
        _ => (address.into(), bits),
    }
}

/// Warnings about a claim's spec.
pub fn claim_spec(spec: &Field, warnings: &mut Vec<String>) {
    for key in ["resources.requests", "resources.limits"] {
        fractions(spec, key, &["storage"], warnings);
    }
}

/// Whether the generation says that something of the spec has changed, or the object is new.
pub fn spec_changed(new: &Value, old: Option<&Value>) -> bool {
    let generation = |object| get(object, "metadata.generation");
    old.is_none_or(|old| generation(old) != generation(new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(of: fn(&Field, &mut Vec<String>), text: &str) -> Vec<String> {
        let (value, mut warnings) = (json!(text), Vec::new());
        of(&Field::new(&value, "p"), &mut warnings);
        warnings
    }

    #[test]
    fn addresses_have_one_form() {
        assert!(said(ip, "10.1.2.3").is_empty() && said(ip, "fd00::1").is_empty());
        assert_eq!(
            said(ip, "FD00:0::1"),
            [r#"p: IPv6 address "FD00:0::1" should be in RFC 5952 canonical format ("fd00::1")"#]
        );
        assert_eq!(
            said(ip, "::ffff:1.2.3.4"),
            [
                r#"p: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4""#
            ]
        );
    }

    #[test]
    fn ranges_have_one_form() {
        assert!(said(cidr, "10.1.0.0/16").is_empty() && said(cidr, "fd00::/64").is_empty());
        assert!(said(cidr, "0.0.0.0/0").is_empty());
        assert_eq!(
            said(cidr, "10.1.2.3/16"),
            [
                r#"p: CIDR value "10.1.2.3/16" is ambiguous in this context (should be "10.1.0.0/16" or "10.1.2.3/32"?)"#
            ]
        );
        assert_eq!(
            said(cidr, "::ffff:1.2.3.0/120"),
            [
                r#"p: non-standard CIDR value "::ffff:1.2.3.0/120" will be considered invalid in a future Kubernetes release: use "1.2.3.0/24""#
            ]
        );
        assert_eq!(
            said(cidr, "FD00::/64"),
            [r#"p: IPv6 CIDR value "FD00::/64" should be in RFC 5952 canonical format ("fd00::/64")"#]
        );
    }

    #[test]
    fn finalizers_should_have_a_domain_and_a_path() {
        let of = |names: &[&str]| json!({"metadata": {"finalizers": names}});
        let new = of(&["plain", "a.example", "a.example/b", "orphan"]);
        let why = "to avoid accidental conflicts with other finalizer writers";
        let path = format!(
            "metadata.finalizers: \"a.example\": prefer a domain-qualified finalizer name including a path (/) {why}"
        );
        let plain = format!("metadata.finalizers: \"plain\": prefer a domain-qualified finalizer name {why}");
        assert_eq!(finalizers(&new, None), [path, plain.clone()]);
        assert_eq!(finalizers(&new, Some(&of(&["a.example"]))), [plain]);
    }
}
