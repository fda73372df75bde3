//! Every verb on every kind, as each sort of user: what the documentation of the default roles promises, written down
//! once more and by hand, so that a slip in the roles themselves shows.

use api::kind::Kind;
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
/// What a node may do with things of the name `x` in the namespace that is tried, where nothing is stored: of what is
/// not there it may hear so.
const OF_NODES: &[(&str, &str, &str)] = &[
    ("get list watch", "", "services"),
    ("create get list watch", "", "nodes"),
    ("create update patch", "", "events"),
    ("create update patch", "events.k8s.io", "events"),
    ("create get delete", "", "pods"),
    ("get list watch delete", "", "persistentvolumes"),
    (
        "create get list watch",
        "certificates.k8s.io",
        "certificatesigningrequests",
    ),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("get list watch", "storage.k8s.io", "csidrivers"),
    ("create", "storage.k8s.io", "csinodes"),
    ("get list watch", "node.k8s.io", "runtimeclasses"),
    ("create", "authentication.k8s.io", "tokenreviews"),
    (
        "create",
        "authorization.k8s.io",
        "localsubjectaccessreviews subjectaccessreviews",
    ),
    // It is proxy and DNS of its pods, too.
    ("get list watch", "", "endpoints"),
    ("list watch", "", "namespaces"),
    ("get list watch", "discovery.k8s.io", "endpointslices"),
    ("get list watch", "networking.k8s.io", "networkpolicies"),
    ("list watch", "networking.k8s.io", "ingresses servicecidrs"),
];
/// The same of parts of objects.
const PARTS_OF_NODES: &[(&str, &str, &str)] = &[
    ("create", "", "pods/eviction"),
    ("update patch", "", "pods/status"),
];
/// Parts that viewers of a namespace see.
const PARTS_SEEN: &[(&str, &str)] = &[
    (
        "",
        "namespaces/status persistentvolumeclaims/status pods/log pods/status replicationcontrollers/scale \
         replicationcontrollers/status resourcequotas/status services/status",
    ),
    (
        "apps",
        "daemonsets/status deployments/scale deployments/status replicasets/scale replicasets/status \
         statefulsets/scale statefulsets/status",
    ),
    ("autoscaling", "horizontalpodautoscalers/status"),
    ("batch", "cronjobs/status jobs/status"),
    ("networking.k8s.io", "ingresses/status"),
    ("policy", "poddisruptionbudgets/status"),
    ("resource.k8s.io", "resourceclaims/status"),
];
/// Parts that editors see, and write.
const PARTS_USED: &[(&str, &str)] = &[(
    "",
    "pods/attach pods/exec pods/portforward pods/proxy services/proxy",
)];
/// Parts that editors write.
const PARTS_WRITTEN: &[(&str, &str)] = &[
    ("", "replicationcontrollers/scale"),
    ("apps", "deployments/scale replicasets/scale statefulsets/scale"),
];
/// Parts that editors make.
const PARTS_MADE: &[(&str, &str)] = &[("", "pods/eviction serviceaccounts/token")];

/// Whether a table of verbs has that one for a kind.
fn grants(table: &[(&str, &str, &str)], verb: &str, group: &str, plural: &str) -> bool {
    let has = |words: &str, word: &str| words.split_whitespace().any(|one| one == word);
    table
        .iter()
        .any(|(verbs, of, plurals)| *of == group && has(verbs, verb) && has(plurals, plural))
}

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
    compare(user, namespace, |_| vec![""], expected);
}

/// The same of the parts of objects, which are named as in `pods/log`.
fn every_part(user: &User, namespace: &str, expected: impl Fn(&str, &str, &str) -> bool) {
    let parts = |kind: &Kind| kind.subresources.iter().map(|part| part.name).collect();
    compare(user, namespace, parts, expected);
}

fn compare(
    user: &User,
    namespace: &str,
    parts: impl Fn(&'static Kind) -> Vec<&'static str>,
    expected: impl Fn(&str, &str, &str) -> bool,
) {
    let rbac = bound();
    let mut wrong = Vec::new();
    for kind in kinds::all() {
        for part in parts(kind) {
            for verb in READS.into_iter().chain(WRITES) {
                let is = rbac.decide(&asked(user, namespace, verb, kind, part)).allowed;
                let what = match part {
                    "" => kind.plural.to_owned(),
                    part => format!("{}/{part}", kind.plural),
                };
                if is != expected(verb, kind.group, &what) {
                    wrong.push(format!("{} {verb} {}/{what}: {is}", user.name, kind.group));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// As of requests for an object: a namespace lies in itself.
fn asked(user: &User, namespace: &str, verb: &str, kind: &Kind, part: &str) -> Attributes {
    let within = kind.namespaced || kind.plural == "namespaces";
    Attributes {
        user: user.clone(),
        verb: verb.to_owned(),
        resource_request: true,
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        resource: kind.plural.to_owned(),
        subresource: part.to_owned(),
        namespace: if within {
            namespace.to_owned()
        } else {
            String::new()
        },
        name: "x".to_owned(),
        ..Attributes::default()
    }
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

fn node() -> User {
    User::new("system:node:n1", &["system:nodes", "system:authenticated"])
}

#[test]
fn a_node_has_what_its_pods_need_and_nothing_else() {
    every(&node(), HERE, |verb, group, plural| {
        common(verb, group, plural) || grants(OF_NODES, verb, group, plural)
    });
    every_part(&node(), HERE, |verb, group, part| {
        grants(PARTS_OF_NODES, verb, group, part)
    });
}

#[test]
fn a_node_looks_after_itself() {
    let rbac = bound();
    let may = |verb: &str, plural: &str, part: &str, name: &str, namespace: &str| {
        let kind = kinds::all().iter().find(|kind| kind.plural == plural);
        let asked = Attributes {
            name: name.to_owned(),
            ..asked(&node(), namespace, verb, kind.expect(plural), part)
        };
        rbac.decide(&asked).allowed
    };
    for (verb, plural, part, namespace) in [
        ("update", "nodes", "", ""),
        ("patch", "nodes", "status", ""),
        ("update", "leases", "", "kube-node-lease"),
        ("delete", "csinodes", "", ""),
    ] {
        assert!(may(verb, plural, part, "n1", namespace), "{verb} {plural}/{part}");
        assert!(
            !may(verb, plural, part, "n2", namespace),
            "{verb} another's {plural}/{part}"
        );
    }
}

#[test]
fn parts_of_objects_are_as_confidential_as_they_are() {
    every_part(&User::anonymous(), HERE, |_, _, _| false);
    every_part(&User::new("root", &["system:masters"]), HERE, |_, _, _| true);
    let seen = |verb: &str, group: &str, part: &str| READS.contains(&verb) && lists(PARTS_SEEN, group, part);
    every_part(&known("view"), HERE, seen);
    for role in ["edit", "admin"] {
        every_part(&known(role), HERE, |verb, group, part| {
            let writes = WRITES.contains(&verb) && lists(PARTS_WRITTEN, group, part);
            let makes = verb == "create" && lists(PARTS_MADE, group, part);
            seen(verb, group, part) || lists(PARTS_USED, group, part) || writes || makes
        });
    }
}
