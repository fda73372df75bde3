use serde_json::json;

use super::*;

const PODS: Counted<'static> = Counted {
    group: "",
    plural: "pods",
};

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard.clone()}, "status": {"hard": hard, "used": used}})
}

fn pod(requests: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}})
}

fn ask(quota: &Value, counted: Counted<'_>, new: &Value, old: Option<&Value>) -> Result<Vec<Value>, String> {
    let now = Timestamp::UNIX_EPOCH;
    charge(
        std::slice::from_ref(quota),
        &Asked {
            counted,
            new,
            old,
            now,
        },
    )
}

#[test]
fn what_fits_is_counted_and_what_does_not_is_refused() {
    let small = quota(
        json!({"pods": "2", "requests.cpu": "1"}),
        json!({"pods": "1", "requests.cpu": "250m"}),
    );
    let changed = ask(&small, PODS, &pod(json!({"cpu": "500m"})), None).unwrap();
    assert_eq!(
        changed[0]["status"]["used"],
        json!({"pods": "2", "requests.cpu": "750m"})
    );
    assert_eq!(
        ask(&changed[0], PODS, &pod(json!({"cpu": "500m"})), None).unwrap_err(),
        "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=750m, limited: \
         pods=2,requests.cpu=1"
    );
}

#[test]
fn containers_say_what_is_counted() {
    let cpu = quota(
        json!({"limits.cpu": "1", "requests.cpu": "1"}),
        json!({"limits.cpu": "0", "requests.cpu": "0"}),
    );
    assert_eq!(
        ask(&cpu, PODS, &pod(json!({"cpu": "1"})), None).unwrap_err(),
        "failed quota: q: must specify limits.cpu for: a"
    );
    assert_eq!(
        ask(&cpu, PODS, &pod(json!({})), None).unwrap_err(),
        "failed quota: q: must specify limits.cpu for: a; requests.cpu for: a"
    );
    let mut whole = pod(json!({}));
    whole["spec"]["resources"] = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}});
    ask(&cpu, PODS, &whole, None).unwrap();
}

#[test]
fn nothing_is_let_in_before_it_is_known_what_is_used() {
    let fresh = quota(json!({"pods": "2"}), json!({}));
    assert_eq!(
        ask(&fresh, PODS, &pod(json!({})), None).unwrap_err(),
        "status unknown for quota: q, resources: pods"
    );
    // One of which not even the limits are known does not count yet.
    let mut new = fresh;
    new["status"] = json!({});
    assert!(ask(&new, PODS, &pod(json!({})), None).unwrap().is_empty());
}

#[test]
fn a_change_costs_only_what_it_adds() {
    let cpu = quota(json!({"requests.cpu": "2"}), json!({"requests.cpu": "1"}));
    let (old, new) = (pod(json!({"cpu": "1"})), pod(json!({"cpu": "1500m"})));
    let changed = ask(&cpu, PODS, &new, Some(&old)).unwrap();
    assert_eq!(changed[0]["status"]["used"]["requests.cpu"], "1500m");
    assert!(ask(&cpu, PODS, &old, Some(&new)).unwrap().is_empty());
}

#[test]
fn any_resource_is_counted_by_its_name() {
    let maps = Counted {
        group: "",
        plural: "configmaps",
    };
    for name in ["configmaps", "count/configmaps"] {
        let full = quota(json!({name: "1"}), json!({name: "1"}));
        let why = ask(&full, maps, &json!({}), None).unwrap_err();
        assert!(
            why.starts_with(&format!("exceeded quota: q, requested: {name}=1")),
            "{why}"
        );
    }
    let custom = Counted {
        group: "example.com",
        plural: "widgets",
    };
    let full = quota(
        json!({"count/widgets.example.com": "0"}),
        json!({"count/widgets.example.com": "0"}),
    );
    assert!(ask(&full, custom, &json!({}), None).is_err());
    assert!(ask(&full, maps, &json!({}), None).unwrap().is_empty());
}

#[test]
fn services_and_claims_use_more_than_themselves() {
    let used = |group, plural, object: Value| {
        let used = Counted { group, plural }.usage(&object, Timestamp::UNIX_EPOCH);
        let texts = used.iter().map(|(name, amount)| format!("{name}={amount}"));
        texts.collect::<Vec<_>>().join(" ")
    };
    let balancer = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
    assert_eq!(
        used("", "services", balancer.clone()),
        "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"
    );
    let mut none = balancer;
    none["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    assert!(used("", "services", none).ends_with("services.nodeports=0"));
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        used("", "persistentvolumeclaims", claim),
        "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         fast.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
    );
    let gpus = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "count": 2}},
        {"firstAvailable": [{"deviceClassName": "gpu", "count": 1}, {"deviceClassName": "tpu", "allocationMode": "All"}]}]}}});
    assert_eq!(
        used("resource.k8s.io", "resourceclaims", gpus),
        "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=3 \
         tpu.deviceclass.resource.k8s.io/devices=32"
    );
}

#[test]
fn pods_that_have_ended_use_nothing_but_their_place() {
    let mut over = pod(json!({"cpu": "1", "example.com/gpu": "2"}));
    let names = |pod: &Value, now: &str| {
        let used = PODS.usage(pod, now.parse().unwrap());
        used.into_keys().collect::<Vec<_>>().join(" ")
    };
    let now = "2026-01-01T00:01:00Z";
    assert_eq!(
        names(&over, now),
        "count/pods cpu pods requests.cpu requests.example.com/gpu"
    );
    over["status"] = json!({"phase": "Succeeded"});
    assert_eq!(names(&over, now), "count/pods");
    let mut lost = pod(json!({}));
    lost["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    lost["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    assert_eq!(names(&lost, now), "count/pods");
    assert_eq!(names(&lost, "2026-01-01T00:00:30Z"), "count/pods pods");
}

#[test]
fn scopes_choose_pods() {
    let holds = |scope: Value, pod: &Value| {
        let mut scoped = quota(json!({"pods": "9"}), json!({"pods": "0"}));
        match scope {
            Value::String(_) => scoped["spec"]["scopes"] = json!([scope]),
            scope => scoped["spec"]["scopeSelector"] = json!({"matchExpressions": [scope]}),
        }
        !ask(&scoped, PODS, pod, None).unwrap().is_empty()
    };
    let (bare, mut short) = (pod(json!({})), pod(json!({"cpu": "1"})));
    short["spec"]["activeDeadlineSeconds"] = json!(5);
    short["spec"]["priorityClassName"] = json!("high");
    for (scope, of_bare) in [
        ("BestEffort", true),
        ("NotBestEffort", false),
        ("NotTerminating", true),
        ("Terminating", false),
    ] {
        assert_eq!(holds(json!(scope), &bare), of_bare, "{scope}");
        assert_eq!(holds(json!(scope), &short), !of_bare, "{scope}");
    }
    let priority = |operator: &str, values: Value| json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
    assert!(holds(priority("In", json!(["high"])), &short));
    assert!(!holds(priority("In", json!(["high"])), &bare));
    assert!(holds(priority("NotIn", json!(["high"])), &bare));
    assert!(holds(priority("Exists", json!([])), &short));
    let mut near = bare.clone();
    near["spec"]["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"namespaces": ["other"], "topologyKey": "x"}]}});
    assert!(
        holds(json!("CrossNamespacePodAffinity"), &near) && !holds(json!("CrossNamespacePodAffinity"), &bare)
    );
}

#[test]
fn a_status_settles_and_then_stays() {
    let new = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "requests.cpu": "1"}}});
    let ended = json!({"status": {"phase": "Failed"}, "spec": {"containers": []}});
    let pods = [pod(json!({"cpu": "250m"})), pod(json!({"cpu": "1"})), ended];
    let used = sum(&new, &PODS, pods.iter(), Timestamp::UNIX_EPOCH);
    let settled_once = settled(&new, &used).unwrap();
    assert_eq!(
        settled_once["status"],
        json!({"hard": {"pods": "5", "requests.cpu": "1"}, "used": {"pods": "2", "requests.cpu": "1250m"}})
    );
    assert_eq!(settled(&settled_once, &used), None);
}
