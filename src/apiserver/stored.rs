//! Where objects lie in the store: `/group/plural/namespace/name`.

/// The key under which an object is stored.
pub fn key(group: &str, plural: &str, namespace: &str, name: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    match namespace.is_empty() {
        true => ["/", group, "/", plural, "/", name].concat(),
        false => ["/", group, "/", plural, "/", namespace, "/", name].concat(),
    }
}

/// The prefix of the keys of a kind's objects, ending in `/`.
pub fn prefix(group: &str, plural: &str, namespace: &str) -> String {
    key(group, plural, namespace, "")
}

/// The part of a key, or of a prefix of keys, that names the resource.
pub fn collection(key: &str) -> &str {
    let third = key.match_indices('/').nth(2);
    third.map_or(key, |(at, _)| key.get(..at).unwrap_or(key))
}

/// Group and plural that such a part is of.
pub fn resource(collection: &str) -> (&str, &str) {
    let named = collection.strip_prefix('/').unwrap_or(collection);
    let (group, plural) = named.split_once('/').unwrap_or(("", named));
    (if group == "core" { "" } else { group }, plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_agreed_form() {
        assert_eq!(key("", "pods", "a", "web"), "/core/pods/a/web");
        assert_eq!(key("apps", "deployments", "a", "web"), "/apps/deployments/a/web");
        assert_eq!(
            prefix("rbac.authorization.k8s.io", "roles", ""),
            "/rbac.authorization.k8s.io/roles/"
        );
        for (key, named) in [
            ("/core/pods/a/web", ("", "pods")),
            ("/apps/deployments/", ("apps", "deployments")),
            ("nonsense", ("", "nonsense")),
        ] {
            assert_eq!(resource(collection(key)), named, "{key}");
        }
    }
}
