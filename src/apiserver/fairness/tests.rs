//! Requests by the objects that every cluster has.

use api::request::User;
use base::{SeededRandom, SystemClock};
use serde_json::json;

use super::*;
use crate::mirror::Mirror;
use crate::registry::suggested_flow_control;

const KEY: &str = "/flowcontrol.apiserver.k8s.io";

fn fairness() -> Fairness {
    let clock = Arc::new(SystemClock::new());
    Fairness::new(Inflight::default(), &Metrics::new(), clock, &SeededRandom::new(1))
}

fn with_suggestions() -> Fairness {
    let fairness = fairness();
    let (levels, schemas) = suggested_flow_control();
    for (plural, objects) in [("prioritylevelconfigurations", levels), ("flowschemas", schemas)] {
        for object in objects {
            let key = format!("{KEY}/{plural}/{}", api::object::name(&object));
            fairness.apply(&key, Some(object.to_string().as_bytes()));
        }
    }
    fairness
}

fn schema_of(fairness: &Fairness, user: &User, about: Subject, verb: &str) -> (String, String) {
    let flow = fairness.flow(&Digest { user, verb, about }).unwrap();
    (flow.schema.name.clone(), flow.level.name.clone())
}

/// A request that only reads, and of no object.
fn look(user: &User) -> Digest<'_> {
    Digest {
        user,
        verb: "get",
        about: Subject::Path("/api"),
    }
}

#[test]
fn who_asks_for_what_decides_the_level() {
    let fairness = with_suggestions();
    let pods = Subject::Resource {
        group: "",
        plural: "pods",
        part: "",
        namespace: "a",
    };
    let lease = Subject::Resource {
        group: "coordination.k8s.io",
        plural: "leases",
        part: "",
        namespace: "kube-node-lease",
    };
    let authenticated = "system:authenticated";
    let node = User::new("system:node:a", &["system:nodes", authenticated]);
    let account = User::new(
        "system:serviceaccount:kube-system:x",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            authenticated,
        ],
    );
    let other = User::new(
        "system:serviceaccount:a:x",
        &["system:serviceaccounts", authenticated],
    );
    let jane = User::new("jane", &[authenticated]);
    for (user, about, verb, schema, level) in [
        (
            &User::new("root", &["system:masters"]),
            pods,
            "list",
            "exempt",
            "exempt",
        ),
        (
            &User::anonymous(),
            Subject::Path("/readyz"),
            "get",
            "probes",
            "exempt",
        ),
        (&node, lease, "update", "system-node-high", "node-high"),
        (&node, pods, "get", "system-nodes", "system"),
        (
            &account,
            lease,
            "update",
            "system-leader-election",
            "leader-election",
        ),
        (
            &account,
            pods,
            "get",
            "kube-system-service-accounts",
            "workload-high",
        ),
        (&other, pods, "get", "service-accounts", "workload-low"),
        (&jane, pods, "get", "global-default", "global-default"),
        (
            &jane,
            Subject::Path("/metrics"),
            "get",
            "global-default",
            "global-default",
        ),
    ] {
        let found = schema_of(&fairness, user, about, verb);
        assert_eq!(
            found,
            (schema.to_owned(), level.to_owned()),
            "{user:?} {verb} {about:?}"
        );
    }
}

#[tokio::test]
async fn the_mandatory_objects_are_there_without_being_stored() {
    let fairness = fairness();
    let jane = User::new("jane", &["system:authenticated"]);
    let about = Subject::Path("/api");
    assert_eq!(schema_of(&fairness, &jane, about, "get").0, "catch-all");
    let root = User::new("root", &["system:masters"]);
    let request = look(&root);
    let flow = fairness.flow(&request).unwrap();
    let mut seats = Vec::new();
    for _ in 0..5_000 {
        seats.push(fairness.enter(&flow, &request, Work::default()).await.unwrap());
    }
}

#[tokio::test]
async fn a_level_that_changes_keeps_who_is_in_it() {
    let fairness = with_suggestions();
    let jane = User::new("jane", &["system:authenticated"]);
    let request = look(&jane);
    let flow = fairness.flow(&request).unwrap();
    let seat = fairness.enter(&flow, &request, Work::default()).await.unwrap();
    let level = json!({"metadata": {"name": "global-default", "uid": "7"}, "spec": {"type": "Limited", "limited":
        {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}});
    let key = format!("{KEY}/prioritylevelconfigurations/global-default");
    fairness.apply(&key, Some(level.to_string().as_bytes()));
    let changed = fairness.flow(&request).unwrap();
    assert_eq!(changed.level.shown().0, (1, 0));
    assert_eq!(changed.uids[1], "7");
    drop(seat);
    assert_eq!(changed.level.shown().0, (0, 0));
    fairness.apply(&key, None);
    assert_eq!(fairness.flow(&request).unwrap().schema.name, "catch-all");
    assert!(
        fairness
            .dump("dump_queues")
            .unwrap()
            .starts_with("PriorityLevelName, Index")
    );
    assert!(
        fairness
            .dump("dump_priority_levels")
            .unwrap()
            .contains("\nworkload-low, 0, true, false, 0, 0, ")
    );
    assert!(fairness.dump("other").is_none());
}

#[tokio::test]
async fn levels_lend_what_they_do_not_need() {
    let fairness = with_suggestions();
    let jane = User::new("jane", &["system:authenticated"]);
    let request = look(&jane);
    let flow = fairness.flow(&request).unwrap();
    let mut seats = Vec::new();
    for _ in 0..49 {
        seats.push(fairness.enter(&flow, &request, Work::default()).await.unwrap());
    }
    let (executing, _) = flow.level.shown().0;
    assert_eq!(executing, 49);
    fairness.lend();
    // Fifty more fit at once now, since nobody else wants their seats.
    for _ in 0..50 {
        seats.push(fairness.enter(&flow, &request, Work::default()).await.unwrap());
    }
}
