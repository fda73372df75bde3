//! Which names a definition gets, and what its conditions say.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::approval;
use super::definition::{is_true, new_status, storage_version};
use crate::object::time_text;
use crate::value::{fill, get, list, set, text};

/// What was decided about a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The status as it should be.
    pub status: Value,
}

/// Decides about a definition, given all of them: whether its names are its own, and so whether it is served.
/// Names that were accepted stay; of a group, a name belongs to the definition that had it first. Pure.
pub fn judge(definition: &Value, all: &[Value], now: Timestamp) -> Verdict {
    let group = text(definition, "spec.group");
    let own = text(definition, "metadata.name");
    let others: Vec<&Value> = all
        .iter()
        .filter(|d| text(d, "spec.group") == group && text(d, "metadata.name") != own)
        .map(|d| get(d, "status.acceptedNames"))
        .collect();
    let (accepted, conflict) = accept(definition, &others);
    let mut status = get(definition, "status").clone();
    if !status.is_object() {
        status = new_status(definition);
    }
    set(&mut status, "acceptedNames", accepted);
    fill(&mut status, "conditions", json!([]));
    let time = time_text(now);
    match &conflict {
        None => condition(
            &mut status,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
            &time,
        ),
        Some((reason, message)) => condition(&mut status, "NamesAccepted", "False", reason, message, &time),
    }
    if is_true(definition, "Established") || conflict.is_none() {
        let message = "the initial names have been accepted";
        condition(
            &mut status,
            "Established",
            "True",
            "InitialNamesAccepted",
            message,
            &time,
        );
    } else {
        condition(
            &mut status,
            "Established",
            "False",
            "NotAccepted",
            "not all names are accepted",
            &time,
        );
    }
    if let Some((holds, reason, message)) = approval::of(definition).condition() {
        let kind = "KubernetesAPIApprovalPolicyConformant";
        condition(&mut status, kind, holds, reason, &message, &time);
    }
    Verdict { status }
}

/// The names that a definition may have, and the first that it may not.
fn accept(definition: &Value, others: &[&Value]) -> (Value, Option<(&'static str, String)>) {
    let wanted = get(definition, "spec.names");
    let before = get(definition, "status.acceptedNames");
    let resources = |names: &Value| {
        let mut out: Vec<String> = ["plural", "singular"]
            .iter()
            .map(|k| text(names, k).to_owned())
            .collect();
        out.extend(
            list(names, "shortNames")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned),
        );
        out
    };
    let kinds = |names: &Value| [text(names, "kind").to_owned(), text(names, "listKind").to_owned()];
    let taken: Vec<String> = others.iter().flat_map(|names| resources(names)).collect();
    let taken_kinds: Vec<String> = others.iter().flat_map(|names| kinds(names)).collect();
    let mut accepted = before.clone();
    if !accepted.is_object() {
        accepted = json!({"plural": "", "kind": ""});
    }
    let mut conflict = None;
    for (key, reason, taken) in [
        ("plural", "PluralConflict", &taken),
        ("singular", "SingularConflict", &taken),
        ("kind", "KindConflict", &taken_kinds),
        ("listKind", "ListKindConflict", &taken_kinds),
    ] {
        let name = text(wanted, key);
        if !name.is_empty() && taken.iter().any(|other| other == name) {
            conflict.get_or_insert((reason, format!("{name:?} is already in use")));
        } else {
            set(&mut accepted, key, name);
        }
    }
    let short = list(wanted, "shortNames");
    let clash: Vec<&str> = short
        .iter()
        .filter_map(Value::as_str)
        .filter(|s| taken.iter().any(|t| t == s))
        .collect();
    if let Some(first) = clash.first() {
        conflict.get_or_insert(("ShortNamesConflict", format!("{first:?} is already in use")));
    } else if short.is_empty() {
        crate::value::remove(&mut accepted, "shortNames");
    } else {
        set(&mut accepted, "shortNames", short.to_vec());
    }
    match list(wanted, "categories") {
        [] => crate::value::remove(&mut accepted, "categories"),
        some => set(&mut accepted, "categories", some.to_vec()),
    }
    (accepted, conflict)
}

/// Sets a condition of a status; its time changes only with its value.
pub fn condition(status: &mut Value, kind: &str, is: &str, reason: &str, message: &str, time: &str) {
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    let found = conditions.iter_mut().find(|c| text(c, "type") == kind);
    let since = match &found {
        Some(before) if text(before, "status") == is => text(before, "lastTransitionTime").to_owned(),
        _ => time.to_owned(),
    };
    let new = json!({"type": kind, "status": is, "reason": reason, "message": message, "lastTransitionTime": since});
    match found {
        Some(before) => *before = new,
        None => conditions.push(new),
    }
}

/// The order of versions: stable before beta before alpha, newer before older, others last by name.
pub fn by_priority(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `v2beta1` as stability, major and minor.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at_checked(end)?;
    let major = major.parse().ok()?;
    let minor = |text: &str| text.parse::<u64>().ok();
    match (rest, rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        ("", ..) => Some((2, major, 0)),
        (_, Some(number), _) => Some((1, major, minor(number)?)),
        (_, _, Some(number)) => Some((0, major, minor(number)?)),
        _ => None,
    }
}

/// Discovery's hash of the stored version: the first eight bytes of a digest of group, version and kind.
pub fn version_hash(definition: &Value) -> String {
    use base64::Engine as _;
    let text = format!(
        "{}/{}/{}",
        text(definition, "spec.group"),
        storage_version(definition),
        text(definition, "spec.names.kind")
    );
    let digest = Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}
