//! Admission policies over a real store: what they refuse, warn of and change.

use std::time::Duration;

use super::*;

const GROUP: &str = "admissionregistration.k8s.io";
const MAPS: (&str, &str) = ("", "configmaps");

/// A policy about ConfigMaps of the given sort, and its binding; `spec` adds to the policy's, `bound` to the binding's.
async fn bind(world: &World, sort: &str, name: &str, spec: Value, bound: Value) {
    let merge = |mut into: Value, more: Value| {
        into.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        into
    };
    let rules = json!({"matchConstraints": {"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["configmaps"]}]}});
    let mutating = sort == "mutating";
    let defaults = match mutating {
        true => json!({"reinvocationPolicy": "Never"}),
        false => json!({}),
    };
    let actions = match mutating {
        true => json!({"policyName": name}),
        false => json!({"policyName": name, "validationActions": ["Deny"]}),
    };
    let policy = json!({"metadata": {"name": name}, "spec": merge(merge(rules, defaults), spec)});
    let binding = json!({"metadata": {"name": format!("{name}-everywhere")}, "spec": merge(actions, bound)});
    let plural = format!("{sort}admissionpolicies");
    world.create((GROUP, &plural), "", policy).await.unwrap();
    let plural = format!("{sort}admissionpolicybindings");
    world.create((GROUP, &plural), "", binding).await.unwrap();
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

/// Tries until a write of that object comes to what is expected: policies are followed a moment later.
async fn until<T>(world: &World, data: Value, check: impl Fn(Result<Reply, Status>) -> Option<T>) -> T {
    let attempt = async {
        loop {
            let mut asked = request(Verb::Create, MAPS, "default", "");
            asked.options.dry_run = true;
            asked.body = map("probe", data.clone()).to_string().into();
            if let Some(found) = check(world.reply(asked).await) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), attempt)
        .await
        .expect("in good time")
}

async fn refused(world: &World, data: Value) -> Status {
    until(world, data, Result::err).await
}

#[tokio::test]
async fn rules_refuse_with_what_they_say() {
    let world = world().await;
    let rules = json!({
        "variables": [{"name": "size", "expression": "object.data.size"},
            {"name": "number", "expression": "int(variables.size)"}],
        "validations": [
            {"expression": "!has(object.data.size) || variables.number < 10", "message": "too big"},
            {"expression": "!has(object.data.colour) || object.data.colour != 'red'", "reason": "Forbidden",
             "messageExpression": "'no ' + object.data.colour + ' in ' + namespaceObject.metadata.name"},
            {"expression": "request.userInfo.username == 'admin' && request.operation == 'CREATE'"}]});
    bind(&world, "validating", "sizes", rules, json!({})).await;
    let status = refused(&world, json!({"size": "12"})).await;
    assert_eq!(
        status.message,
        "configmaps \"probe\" is forbidden: ValidatingAdmissionPolicy 'sizes' with binding 'sizes-everywhere' denied \
         request: too big"
    );
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let status = refused(&world, json!({"colour": "red"})).await;
    assert!(
        status.message.ends_with("denied request: no red in default"),
        "{status}"
    );
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let status = refused(&world, json!({"size": "many"})).await;
    assert!(
        status.message.contains(
            "expression '!has(object.data.size) || variables.number < 10' resulted in error: \
            composited variable \"number\" fails to evaluate"
        ),
        "{status}"
    );
    world
        .create(MAPS, "default", map("a", json!({"size": "3"})))
        .await
        .unwrap();
    let updated = json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"size": "4"}});
    let status = world.update(MAPS, "", updated).await.unwrap_err();
    assert!(
        status.message.ends_with(
            "denied request: failed expression: request.userInfo.username == 'admin' && request.operation == 'CREATE'"
        ),
        "{status}"
    );
}

#[tokio::test]
async fn warnings_and_exceptions() {
    let world = world().await;
    let rules = json!({
        "matchConditions": [{"name": "not-mine", "expression": "!object.metadata.name.startsWith('mi')"}],
        "auditAnnotations": [{"key": "seen", "valueExpression": "object.metadata.name"}],
        "validations": [{"expression": "authorizer.group('').resource('secrets').check('get').allowed() && \
            authorizer.requestResource.check('create').allowed()"}, {"expression": "!('odd' in object.data)"}]});
    let bound = json!({"validationActions": ["Warn", "Audit"], "matchResources": {"objectSelector":
        {"matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}]}}});
    bind(&world, "validating", "odds", rules, bound).await;
    let warned = |reply: Result<Reply, Status>| Some(reply.unwrap().warnings).filter(|w| !w.is_empty());
    assert_eq!(
        until(&world, json!({"odd": "1"}), warned).await,
        [
            "Validation failed for ValidatingAdmissionPolicy 'odds' with binding 'odds-everywhere': failed expression: \
          !('odd' in object.data)"
        ]
    );
    for body in [
        json!({"metadata": {"name": "mine"}, "data": {"odd": "1"}}),
        json!({"metadata": {"name": "shy", "labels": {"quiet": "yes"}}, "data": {"odd": "1"}}),
        map("even", json!({"x": "1"})),
    ] {
        let mut asked = request(Verb::Create, MAPS, "default", "");
        asked.body = body.to_string().into();
        let notes = asked.notes.clone();
        assert_eq!(
            world.reply(asked).await.unwrap().warnings,
            Vec::<String>::new(),
            "{body}"
        );
        let noted = notes.annotations();
        assert_eq!(
            noted.contains_key("odds/seen"),
            body["metadata"]["name"] == "even",
            "{body}"
        );
    }
}

#[tokio::test]
async fn parameters_decide() {
    let world = world().await;
    let rules = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "no-limits", "expression": "!has(object.data.max)"}],
        "validations": [{"expression": "object.data.size.size() <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max"}]});
    let reference = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    bind(&world, "validating", "limited", rules, reference).await;
    let status = refused(&world, json!({"size": "abcdef"})).await;
    assert!(
        status.message.ends_with(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        "{status}"
    );
    // The parameter itself is refused as long as there is none, in another namespace as here.
    let policies = (GROUP, "validatingadmissionpolicybindings");
    let binding = request(Verb::Delete, policies, "", "limited-everywhere");
    world.call(binding).await.unwrap();
    until(&world, json!({}), Result::ok).await;
    world
        .create(MAPS, "default", map("limits", json!({"max": "5"})))
        .await
        .unwrap();
    let again = json!({"metadata": {"name": "limited-again"}, "spec": {"policyName": "limited",
        "validationActions": ["Deny"], "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}}});
    world.create(policies, "", again).await.unwrap();
    let status = refused(&world, json!({"size": "abcdef"})).await;
    assert!(status.message.ends_with("denied request: at most 5"), "{status}");
    world
        .create(MAPS, "default", map("small", json!({"size": "abc"})))
        .await
        .unwrap();
}

#[tokio::test]
async fn expressions_change_objects() {
    let world = world().await;
    let apply = json!({"failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'count': string(size(object.data))}}}"}}]});
    let patch = json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
        "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('more'), value: 'c'}]"}}]});
    bind(&world, "mutating", "a-counts", apply, json!({})).await;
    bind(&world, "mutating", "b-adds", patch, json!({})).await;
    let changed = |reply: Result<Reply, Status>| {
        let made = value(&reply.unwrap());
        (!made["data"]["more"].is_null() && !made["metadata"]["labels"].is_null()).then_some(made)
    };
    let made = until(&world, json!({"x": "y"}), changed).await;
    assert_eq!(made["data"], json!({"x": "y", "more": "c"}));
    assert_eq!(
        made["metadata"]["labels"],
        json!({"count": "2"}),
        "the first was asked again after the second"
    );
    let broken = json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
        "[JSONPatch{op: 'remove', path: '/data/nothing'}]"}}]});
    bind(&world, "mutating", "c-breaks", broken, json!({})).await;
    let status = refused(&world, json!({"x": "y"})).await;
    assert!(
        status
            .message
            .starts_with("policy 'c-breaks' with binding 'c-breaks-everywhere' denied request: "),
        "{status}"
    );
    assert_eq!(status.code, 403);
}
