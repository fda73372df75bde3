//! What one rule allows, and whether a set of rules covers another
//! (Kubernetes' `rbac` and `rbac/validation` packages describe the meaning).

use crate::authz::{Attributes, PolicyRule};

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// Whether the rule allows what is asked.
pub fn allows(rule: &PolicyRule, asked: &Attributes) -> bool {
    if !any(&rule.verbs, &asked.verb) {
        return false;
    }
    if !asked.resource_request {
        return rule
            .non_resource_urls
            .iter()
            .any(|pattern| path_matches(pattern, &asked.path));
    }
    any(&rule.api_groups, &asked.group)
        && resource_matches(&rule.resources, &asked.resource, &asked.subresource)
        && (rule.resource_names.is_empty() || rule.resource_names.contains(&asked.name))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

fn resource_matches(patterns: &[String], resource: &str, subresource: &str) -> bool {
    patterns.iter().any(|pattern| {
        if pattern == "*" {
            return true;
        }
        match pattern.split_once('/') {
            None => subresource.is_empty() && pattern == resource,
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((name, sub)) => name == resource && sub == subresource,
        }
    })
}

/// The parts of `wanted` that `held` does not cover, each about one verb, group, resource and
/// name, or one verb and path.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        .flat_map(atoms)
        .filter(|atom| !held.iter().any(|rule| covers(rule, atom)))
        .collect()
}

fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                let named = |name: &String| PolicyRule {
                    resource_names: vec![name.clone()],
                    ..atom.clone()
                };
                atoms.extend(rule.resource_names.iter().map(named));
            }
        }
        atoms.extend(rule.non_resource_urls.iter().map(|path| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: vec![path.clone()],
            ..PolicyRule::default()
        }));
    }
    atoms
}

fn covers(held: &PolicyRule, atom: &PolicyRule) -> bool {
    let all = |list: &[String], wanted: &[String]| wanted.iter().all(|w| any(list, w));
    if !all(&held.verbs, &atom.verbs) {
        return false;
    }
    if !atom.non_resource_urls.is_empty() {
        return atom.non_resource_urls.iter().all(|wanted| {
            held.non_resource_urls
                .iter()
                .any(|pattern| pattern == wanted || path_matches(pattern, wanted))
        });
    }
    let resources = atom.resources.iter().all(|wanted| {
        let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
        held.resources.contains(wanted) || resource_matches(&held.resources, resource, subresource)
    });
    let names = held.resource_names.is_empty()
        || (!atom.resource_names.is_empty()
            && atom
                .resource_names
                .iter()
                .all(|name| held.resource_names.contains(name)));
    all(&held.api_groups, &atom.api_groups) && resources && names
}

/// Merges rules that differ in their verbs only, so that a list of refused
/// permissions stays readable.
pub fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut merged: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut PolicyRule| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls == rule.non_resource_urls
        };
        match merged.iter_mut().find(same) {
            Some(other) => {
                let fresh = rule
                    .verbs
                    .into_iter()
                    .filter(|v| !other.verbs.contains(v))
                    .collect::<Vec<_>>();
                other.verbs.extend(fresh);
            }
            None => merged.push(rule),
        }
    }
    merged
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
pub fn text(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, list)| !list.is_empty());
    let parts = parts.map(|(name, list)| format!("{name}:{}", quoted(list)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    format!(
        "[{}]",
        list.iter()
            .map(|item| format!("{item:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn ask(verb: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            resource_request: true,
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_match_resources_parts_and_names() {
        let pods = rule(&["get"], &[""], &["pods"], &[]);
        assert!(allows(&pods, &ask("get", "pods", "", "a")));
        assert!(!allows(&pods, &ask("get", "pods", "log", "a")));
        assert!(!allows(&pods, &ask("list", "pods", "", "")));
        let scale = rule(&["*"], &["*"], &["*/scale"], &[]);
        assert!(allows(&scale, &ask("update", "deployments", "scale", "a")));
        assert!(!allows(&scale, &ask("update", "deployments", "", "a")));
        let named = rule(&["get"], &[""], &["secrets"], &["mine"]);
        assert!(allows(&named, &ask("get", "secrets", "", "mine")));
        assert!(!allows(&named, &ask("get", "secrets", "", "yours")));
        assert!(!allows(&named, &ask("list", "secrets", "", "")));
    }

    #[test]
    fn what_is_not_held_is_listed_and_merged() {
        let held = [
            rule(&["get", "list"], &[""], &["pods"], &[]),
            rule(&["*"], &["apps"], &["*"], &[]),
        ];
        let wanted = [
            rule(&["get", "delete", "watch"], &[""], &["pods"], &[]),
            rule(&["patch"], &["apps"], &["deployments", "deployments/scale"], &[]),
        ];
        let missing = compact(uncovered(&held, &wanted));
        assert_eq!(
            missing.iter().map(text).collect::<Vec<_>>(),
            [r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}"#]
        );
        let named = [rule(&["get"], &[""], &["secrets"], &["a"])];
        assert!(!uncovered(&named, &[rule(&["get"], &[""], &["secrets"], &[])]).is_empty());
        assert!(uncovered(&named, &[rule(&["get"], &[""], &["secrets"], &["a"])]).is_empty());
    }
}
