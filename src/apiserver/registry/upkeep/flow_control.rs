//! Flow control's own objects, those that Kubernetes calls mandatory and those that it suggests
//! (apiserver `flowcontrol/bootstrap`), and whether schemas name a level that is there.

use std::collections::BTreeSet;

use api::object;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::order::{Collection, What, Write, condition, has_all};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The levels.
pub(super) const LEVELS: Collection = (GROUP, "prioritylevelconfigurations", "");
/// The schemas.
pub(super) const SCHEMAS: Collection = (GROUP, "flowschemas", "");

/// Says whether a suggested object goes on following the suggestion.
const FOLLOWS: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects that are always as they are here, whatever their annotation says.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// What has to be written, given what is there.
pub(super) fn plan(levels: &[Value], schemas: &[Value], now: Timestamp) -> Vec<Write> {
    let mut writes = kept(LEVELS, &self::levels(), levels);
    let to_be = levels.iter().chain(writes.iter().map(|write| &write.object));
    let named: BTreeSet<String> = to_be.map(|level| object::name(level).to_owned()).collect();
    let told = |schema: &Value| {
        let says = judge(schema, &named);
        condition(schema, "Dangling", says.each_ref().map(String::as_str), now)
    };
    for mut write in kept(SCHEMAS, &self::schemas(), schemas) {
        if write.what == What::Create {
            write.object = told(&write.object).unwrap_or(write.object);
        }
        writes.push(write);
    }
    writes.extend(schemas.iter().filter_map(|schema| {
        Some(Write {
            collection: SCHEMAS,
            what: What::ReplaceStatus,
            object: told(schema)?,
        })
    }));
    writes
}

/// All levels and schemas, as a new cluster has them.
#[cfg(test)]
pub(crate) fn all() -> (Vec<Value>, Vec<Value>) {
    (levels(), schemas())
}

/// The levels and schemas without which nothing goes.
pub(crate) fn mandatory() -> (Vec<Value>, Vec<Value>) {
    let kept = |mut objects: Vec<Value>| {
        objects.retain(|one| MANDATORY.contains(&object::name(one)));
        objects
    };
    (kept(levels()), kept(schemas()))
}

/// What is missing, and what follows the wanted form but differs from it.
fn kept(collection: Collection, wanted: &[Value], live: &[Value]) -> Vec<Write> {
    let write = |wanted: &Value| {
        let found = live
            .iter()
            .find(|live| object::name(live) == object::name(wanted));
        let (what, object) = match found {
            None => (What::Create, wanted.clone()),
            Some(live) if follows(live) && !has_all(&live["spec"], &wanted["spec"]) => {
                let mut new = live.clone();
                new["spec"] = wanted["spec"].clone();
                (What::Replace, new)
            }
            Some(_) => return None,
        };
        Some(Write {
            collection,
            what,
            object,
        })
    };
    wanted.iter().filter_map(write).collect()
}

/// Without the annotation, an object that nobody has changed follows.
fn follows(live: &Value) -> bool {
    MANDATORY.contains(&object::name(live))
        || match object::annotation(live, FOLLOWS) {
            Some(says) => says == "true",
            None => object::generation(live) == 1,
        }
}

/// The condition `Dangling` of a schema.
fn judge(schema: &Value, levels: &BTreeSet<String>) -> [String; 3] {
    let level = object::get_str(schema, &["spec", "priorityLevelConfiguration", "name"]);
    let (status, reason, rest) = match levels.contains(level) {
        true => ("False", "Found", "it exists"),
        false => ("True", "NotFound", "there is no such object"),
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and {rest}"
    );
    [status.into(), reason.into(), message]
}

fn levels() -> Vec<Value> {
    let exempt = json!({
        "type": "Exempt",
        "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
    });
    let rejecting = json!({
        "type": "Limited",
        "limited": { "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" } },
    });
    let mut levels = vec![level("exempt", exempt), level("catch-all", rejecting)];
    // Shares, per cent to lend, queues, hand.
    for (name, [shares, lendable, queues, hand]) in [
        ("system", [30, 33, 64, 6]),
        ("node-high", [40, 25, 64, 6]),
        ("leader-election", [10, 0, 16, 4]),
        ("workload-high", [40, 50, 128, 6]),
        ("workload-low", [100, 90, 128, 6]),
        ("global-default", [20, 50, 128, 6]),
    ] {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
        let limited = json!({
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": { "type": "Queue", "queuing": queuing },
        });
        levels.push(level(name, json!({ "type": "Limited", "limited": limited })));
    }
    levels
}

fn schemas() -> Vec<Value> {
    let system = || account("*");
    let elects = |places: &str| resources("get,create,update", "", "endpoints,configmaps", places);
    let leases = || resources("get,create,update", "coordination.k8s.io", "leases", "*");
    let endpoints = resources("get,create,update", "", "endpoints", "*");
    let mut nodes = resources("*", "", "nodes,nodes/status", "*");
    nodes["clusterScope"] = true.into();
    let probes = json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] });
    let anybody = || [group("system:unauthenticated"), group("system:authenticated")];
    vec![
        schema("exempt", "exempt", 1, "", everything(&[group("system:masters")])),
        schema("probes", "exempt", 2, "", rule(&anybody(), &[], &[probes])),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            rule(
                &[
                    user("system:kube-controller-manager"),
                    user("system:kube-scheduler"),
                    system(),
                ],
                &[elects("kube-system"), leases()],
                &[],
            ),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            "ByUser",
            rule(
                &[
                    user("system:kube-controller-manager"),
                    account("endpoint-controller"),
                    account("endpointslicemirroring-controller"),
                ],
                &[endpoints],
                &[],
            ),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            rule(&[system()], &[elects("*"), leases()], &[]),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            rule(
                &[group("system:nodes")],
                &[nodes, resources("*", "coordination.k8s.io", "leases", "*")],
                &[],
            ),
        ),
        schema(
            "system-nodes",
            "system",
            500,
            "ByUser",
            everything(&[group("system:nodes")]),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            everything(&[user("system:kube-controller-manager")]),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            everything(&[user("system:kube-scheduler")]),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            everything(&[system()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            everything(&[group("system:serviceaccounts")]),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            "ByUser",
            everything(&anybody()),
        ),
        schema("catch-all", "catch-all", 10_000, "ByUser", everything(&anybody())),
    ]
}

fn level(name: &str, spec: Value) -> Value {
    named("PriorityLevelConfiguration", name, spec)
}

fn schema(name: &str, level: &str, precedence: u32, by: &str, rule: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    named("FlowSchema", name, spec)
}

fn named(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": { "name": name, "annotations": { FOLLOWS: "true" } },
        "spec": spec,
    })
}

fn rule(subjects: &[Value], resources: &[Value], paths: &[Value]) -> Value {
    let mut rule = json!({ "subjects": subjects });
    if !resources.is_empty() {
        rule["resourceRules"] = resources.into();
    }
    if !paths.is_empty() {
        rule["nonResourceRules"] = paths.into();
    }
    rule
}

/// Every request of those.
fn everything(subjects: &[Value]) -> Value {
    let mut resources = resources("*", "*", "*", "*");
    resources["clusterScope"] = true.into();
    rule(
        subjects,
        &[resources],
        &[json!({ "verbs": ["*"], "nonResourceURLs": ["*"] })],
    )
}

fn resources(verbs: &str, group: &str, plurals: &str, namespaces: &str) -> Value {
    let words = |text: &str| -> Value { text.split(',').collect() };
    json!({
        "verbs": words(verbs), "apiGroups": [group], "resources": words(plurals), "namespaces": [namespaces],
    })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "group": { "name": name } })
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "user": { "name": name } })
}

/// A service account of `kube-system`.
fn account(name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "name": name, "namespace": "kube-system" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(writes: Vec<Write>) -> (Vec<Value>, Vec<Value>) {
        let (levels, schemas): (Vec<Write>, Vec<Write>) =
            writes.into_iter().partition(|write| write.collection == LEVELS);
        let objects = |writes: Vec<Write>| writes.into_iter().map(|write| write.object).collect();
        (objects(levels), objects(schemas))
    }

    #[test]
    fn its_own_objects_are_valid_and_complete() {
        for (kind, objects) in [(LEVELS.1, levels()), (SCHEMAS.1, schemas())] {
            let kind = api::kinds::find(GROUP, "v1", kind).unwrap();
            for mut object in objects {
                let spec = object["spec"].clone();
                (kind.default)(&mut object);
                assert_eq!((kind.validate)(&object), [], "{object}");
                assert!(has_all(&object["spec"], &spec));
            }
        }
    }

    #[test]
    fn a_changed_object_is_put_right_if_it_follows() {
        let (levels, mut schemas) = after(plan(&[], &[], Timestamp::UNIX_EPOCH));
        assert_eq!((levels.len(), schemas.len()), (8, 13));
        schemas[2]["spec"]["matchingPrecedence"] = 101.into();
        schemas[3]["spec"]["matchingPrecedence"] = 151.into();
        schemas[3]["metadata"]["annotations"][FOLLOWS] = "false".into();
        schemas[12]["spec"]["matchingPrecedence"] = 9_999.into();
        schemas[12]["metadata"]["annotations"][FOLLOWS] = "false".into();
        let writes = plan(&levels, &schemas, Timestamp::UNIX_EPOCH);
        let replaced = writes.iter().filter(|write| write.what == What::Replace);
        let names: Vec<&str> = replaced.map(|write| object::name(&write.object)).collect();
        assert_eq!(names, ["system-leader-election", "catch-all"]);
    }

    #[test]
    fn a_schema_without_its_level_dangles() {
        let lost = schema("a", "nowhere", 5, "", everything(&[user("a")]));
        let writes = plan(&[], &[lost], Timestamp::UNIX_EPOCH);
        let told = writes
            .iter()
            .find(|write| write.what == What::ReplaceStatus)
            .unwrap();
        let condition = &told.object["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("NotFound"))
        );
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"nowhere\" and there is no such object"
        );
    }
}
