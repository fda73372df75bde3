//! How documents name groups and operations. Generated clients make names of theirs.

use serde_json::{Value, json};

/// One entry of `x-kubernetes-group-version-kind`.
pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The group in an operation's id, such as `Core` and `RbacAuthorization`.
pub(super) fn group_title(group: &str) -> String {
    short(group).split('.').map(capitalised).collect()
}

/// The tag of a group, such as `core` and `rbacAuthorization`.
pub(super) fn group_tag(group: &str) -> String {
    let mut words = short(group).split('.');
    let first = words.next().unwrap_or_default().to_owned();
    let rest: String = words.map(capitalised).collect();
    first + &rest
}

/// The tag of a group's version, such as `core_v1`.
pub(super) fn version_tag(group: &str, version: &str) -> String {
    format!("{}_{version}", group_tag(group))
}

/// `a Pod`, `an Ingress`, and `Endpoints`, which are many.
pub(super) fn with_article(kind: &str) -> String {
    let is_many = kind.ends_with('s') && !kind.ends_with("ss");
    match kind.chars().next() {
        _ if is_many => kind.to_owned(),
        Some('A' | 'E' | 'I' | 'O' | 'U') => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// With its first letter as a capital.
pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn short(group: &str) -> &str {
    match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "core",
        short => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_kinds_are_named_as_clients_expect() {
        for (group, title, tag) in [
            ("", "Core", "core"),
            ("apps", "Apps", "apps"),
            (
                "rbac.authorization.k8s.io",
                "RbacAuthorization",
                "rbacAuthorization",
            ),
            ("stable.example.com", "StableExampleCom", "stableExampleCom"),
        ] {
            assert_eq!((group_title(group), group_tag(group)), (title.into(), tag.into()));
        }
        let named = ["Pod", "Ingress", "Endpoints", "IPAddress"].map(with_article);
        assert_eq!(named, ["a Pod", "an Ingress", "Endpoints", "an IPAddress"]);
    }
}
