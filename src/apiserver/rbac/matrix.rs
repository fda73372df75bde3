//! Every verb on every kind, as each sort of user: what the documentation of the default roles promises, written down
//! once more and by hand, so that a slip in the roles themselves shows.

use api::kinds;
use api::request::User;
use serde_json::json;

use super::Rbac;
use crate::authz::{Attributes, Authorizer};

const READS: [&str; 3] = ["get", "list", "watch"];
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
const HERE: &str = "a";

/// What viewers of a namespace see, by group.
const SEEN: &[(&str, &str)] = &[
    (
        "",
        "bindings configmaps endpoints events limitranges namespaces persistentvolumeclaims pods \
         replicationcontrollers resourcequotas serviceaccounts services",
    ),
    (
        "apps",
        "controllerrevisions daemonsets deployments replicasets statefulsets",
    ),
    ("autoscaling", "horizontalpodautoscalers"),
    ("batch", "cronjobs jobs"),
    ("discovery.k8s.io", "endpointslices"),
    ("networking.k8s.io", "ingresses networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];
/// What editors of a namespace write.
const WRITTEN: &[(&str, &str)] = &[
    (
        "",
        "configmaps events persistentvolumeclaims pods replicationcontrollers secrets serviceaccounts services",
    ),
    ("apps", "daemonsets deployments replicasets statefulsets"),
    ("autoscaling", "horizontalpodautoscalers"),
    ("batch", "cronjobs jobs"),
    ("coordination.k8s.io", "leases"),
    ("networking.k8s.io", "ingresses networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];
/// What editors see and viewers do not.
const CONFIDED: &[(&str, &str)] = &[("", "secrets"), ("coordination.k8s.io", "leases")];
/// What administrators of a namespace have besides.
const GRANTED: &[(&str, &str)] = &[("rbac.authorization.k8s.io", "rolebindings roles")];
/// What everybody who is known may ask.
const ASKED_BY_ALL: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews selfsubjectrulesreviews",
    ),
];
/// What a node may write at all.
const WRITTEN_BY_NODES: &[(&str, &str)] = &[
    ("", "events nodes persistentvolumeclaims persistentvolumes pods"),
    ("authentication.k8s.io", "selfsubjectreviews tokenreviews"),
    (
        "authorization.k8s.io",
        "localsubjectaccessreviews selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews",
    ),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csinodes"),
];

fn lists(table: &[(&str, &str)], group: &str, plural: &str) -> bool {
    table
        .iter()
        .any(|(of, plurals)| *of == group && plurals.split_whitespace().any(|one| one == plural))
}

/// The default roles, with one user each bound to `admin`, `edit` and `view` in one namespace.
fn bound() -> Rbac {
    let rbac = Rbac::with_defaults();
    for role in ["admin", "edit", "view"] {
        let binding = json!({"metadata": {"name": role, "namespace": HERE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}]});
        rbac.take("rolebindings", HERE, role, Some(binding.to_string().as_bytes()));
    }
    rbac
}

/// Asks every question there is about kinds, in that namespace, and compares.
fn every(user: &User, namespace: &str, expected: impl Fn(&str, &str, &str) -> bool) {
    let rbac = bound();
    let mut wrong = Vec::new();
    for kind in kinds::all() {
        for verb in READS.into_iter().chain(WRITES) {
            // As of requests for an object: a namespace lies in itself.
            let asked = Attributes {
                user: user.clone(),
                verb: verb.to_owned(),
                resource_request: true,
                group: kind.group.to_owned(),
                version: kind.version.to_owned(),
                resource: kind.plural.to_owned(),
                namespace: if kind.namespaced || kind.plural == "namespaces" {
                    namespace.to_owned()
                } else {
                    String::new()
                },
                name: "x".to_owned(),
                ..Attributes::default()
            };
            let (is, shall) = (
                rbac.decide(&asked).allowed,
                expected(verb, kind.group, kind.plural),
            );
            if is != shall {
                wrong.push(format!(
                    "{} {verb} {}/{}: {is}",
                    user.name, kind.group, kind.plural
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn known(name: &str) -> User {
    User::new(name, &["system:authenticated"])
}

/// What everybody who is known may do.
fn common(verb: &str, group: &str, plural: &str) -> bool {
    verb == "create" && lists(ASKED_BY_ALL, group, plural)
}

#[test]
fn masters_may_do_everything_and_nobody_nothing() {
    every(&User::new("root", &["system:masters"]), HERE, |_, _, _| true);
    every(&User::anonymous(), HERE, |_, _, _| false);
}

#[test]
fn viewers_see_what_is_no_secret() {
    every(&known("view"), HERE, |verb, group, plural| {
        common(verb, group, plural) || (READS.contains(&verb) && lists(SEEN, group, plural))
    });
}

#[test]
fn editors_write_what_runs_and_grant_nothing() {
    every(&known("edit"), HERE, |verb, group, plural| {
        let reads = lists(SEEN, group, plural) || lists(CONFIDED, group, plural);
        common(verb, group, plural)
            || (READS.contains(&verb) && reads)
            || (WRITES.contains(&verb) && lists(WRITTEN, group, plural))
    });
}

#[test]
fn administrators_grant_within_their_namespace() {
    every(&known("admin"), HERE, |verb, group, plural| {
        let tables = [SEEN, CONFIDED, GRANTED];
        common(verb, group, plural)
            || (READS.contains(&verb) && tables.iter().any(|table| lists(table, group, plural)))
            || (WRITES.contains(&verb) && (lists(WRITTEN, group, plural) || lists(GRANTED, group, plural)))
            || (verb == "create" && plural == "localsubjectaccessreviews")
    });
}

#[test]
fn elsewhere_they_are_like_anybody() {
    let account = User::new(
        "system:serviceaccount:a:default",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated",
        ],
    );
    every(&account, HERE, common);
    for name in ["admin", "edit", "view"] {
        every(&known(name), "b", common);
    }
}

#[test]
fn a_node_writes_little_and_reads_no_secret_that_it_needs_not() {
    let rbac = bound();
    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    for kind in kinds::all() {
        let asked = |verb: &str| Attributes {
            user: node.clone(),
            verb: verb.to_owned(),
            resource_request: true,
            group: kind.group.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: if kind.namespaced {
                HERE.to_owned()
            } else {
                String::new()
            },
            name: "x".to_owned(),
            ..Attributes::default()
        };
        for verb in WRITES {
            let may = rbac.decide(&asked(verb)).allowed;
            assert!(
                !may || lists(WRITTEN_BY_NODES, kind.group, kind.plural),
                "{verb} {}",
                kind.plural
            );
        }
        if matches!(kind.plural, "secrets" | "configmaps" | "persistentvolumeclaims") {
            assert!(!rbac.decide(&asked("get")).allowed, "{}", kind.plural);
        }
        // Another node's own things.
        if matches!(kind.plural, "nodes" | "csinodes") {
            assert!(
                !WRITES
                    .into_iter()
                    .any(|verb| verb != "create" && rbac.decide(&asked(verb)).allowed)
            );
        }
    }
}
