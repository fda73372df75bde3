use jiff::Timestamp;

use super::*;

fn service(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    (KIND.default)(&mut object);
    (KIND.prepare_create)(&mut object);
    object
}

fn simple() -> Value {
    service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}))
}

fn wrong(service: &Value) -> Vec<String> {
    KIND.check_create(service)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn defaults_are_those_of_kubernetes() {
    assert_eq!(
        simple()["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(simple()["status"], json!({"loadBalancer": {}}));
    let sticky = service(
        json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": "web"}]}),
    );
    assert_eq!(
        sticky["spec"]["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
    assert_eq!(sticky["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(sticky["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(sticky["spec"]["ports"][0]["targetPort"], "web");
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    for good in [simple(), sticky, headless] {
        assert_eq!(wrong(&good), [""; 0]);
    }
}

#[test]
fn what_is_wrong_with_a_service() {
    for (spec, expected) in [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"type": "Odd", "ports": [{"port": 80}]}),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 81}]}),
            "spec.ports[1].name: Required value",
        ),
        (
            json!({"type": "ExternalName"}),
            "spec.externalName: Required value",
        ),
        (
            json!({"ports": [{"port": 80}], "externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
    ] {
        let found = wrong(&service(spec.clone()));
        assert!(found.contains(&expected.to_owned()), "{spec}: {found:?}");
    }
    let mut named = simple();
    named["metadata"]["name"] = json!("1web");
    assert!(
        wrong(&named)[0]
            .starts_with("metadata.name: Invalid value: \"1web\": a DNS-1035 label must consist of")
    );
}

#[test]
fn what_is_wrong_with_addresses() {
    for (spec, expected) in [
        (
            json!({"clusterIPs": ["10.43.0.5", "10.43.0.6"], "clusterIP": "10.43.0.5"}),
            "spec.clusterIPs: Invalid value: [\"10.43.0.5\",\"10.43.0.6\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"clusterIP": "10.43.0.5", "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.43.0.5\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({"clusterIPs": ["None", "10.43.0.5"], "clusterIP": "None"}),
            "spec.clusterIPs: Invalid value: [\"None\",\"10.43.0.5\"]: 'None' must be the first and only value",
        ),
    ] {
        let mut spec = spec;
        spec["ports"] = json!([{"port": 80}]);
        let found = wrong(&service(spec.clone()));
        assert!(found.contains(&expected.to_owned()), "{spec}: {found:?}");
    }
}

fn stored() -> Value {
    let mut old = service(json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}));
    old["spec"]["clusterIP"] = json!("10.43.0.5");
    old["spec"]["clusterIPs"] = json!(["10.43.0.5"]);
    old["spec"]["ports"][0]["nodePort"] = json!(30080);
    old
}

fn updated(spec: Value) -> (Value, Vec<String>) {
    let old = stored();
    let mut new = json!({"metadata": old["metadata"], "spec": spec});
    (KIND.default)(&mut new);
    (KIND.prepare_update)(&mut new, &old);
    let errors = (KIND.validate_update)(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    (new["spec"].clone(), errors)
}

#[test]
fn what_was_handed_out_is_kept() {
    let (spec, errors) =
        updated(json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]}));
    assert_eq!(spec["clusterIP"], "10.43.0.5");
    assert_eq!(spec["ports"][0]["nodePort"], 30080);
    assert!(spec["ports"][1].get("nodePort").is_none());
    assert_eq!(errors, ["spec.ports[0].name: Required value"]);
}

#[test]
fn node_ports_stay_until_they_are_taken_out() {
    let mut old = stored();
    old["spec"]["type"] = json!("LoadBalancer");
    let mut new = old.clone();
    new["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    (KIND.prepare_update)(&mut new, &old);
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
}

#[test]
fn cluster_ips_do_not_change() {
    let (_, errors) = updated(json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [{"port": 80}]}));
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.43.0.9\"]: may not change once set"]
    );
}

#[test]
fn a_second_family_comes_and_goes_by_policy() {
    let mut old = stored();
    old["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    old["spec"]["ipFamilies"] = json!(["IPv4"]);
    let mut dual = old.clone();
    dual["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    dual["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    dual["spec"]["clusterIPs"] = json!(["10.43.0.5", "fd43::5"]);
    let change = |new: &Value, old: &Value| {
        let mut new = new.clone();
        (KIND.prepare_update)(&mut new, old);
        let errors: Vec<String> = (KIND.validate_update)(&new, old)
            .iter()
            .map(ToString::to_string)
            .collect();
        (new["spec"].clone(), errors)
    };
    assert_eq!(change(&dual, &old).1, [""; 0]);
    let mut single = dual.clone();
    single["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    let (spec, errors) = change(&single, &dual);
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        (&spec["clusterIPs"], &spec["ipFamilies"]),
        (&json!(["10.43.0.5"]), &json!(["IPv4"]))
    );
    let mut moved = dual.clone();
    moved["spec"]["clusterIPs"] = json!(["10.43.0.5", "fd43::6"]);
    assert_eq!(
        change(&moved, &dual).1,
        ["spec.clusterIPs[1]: Invalid value: [\"10.43.0.5\",\"fd43::6\"]: may not change once set"]
    );
    let mut turned = dual.clone();
    turned["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    assert!(change(&turned, &dual).1.contains(
        &"spec.ipFamilies[0]: Invalid value: [\"IPv6\",\"IPv4\"]: may not change once set".to_owned()
    ));
}

#[test]
fn types_change_and_give_back() {
    let mut whole = stored()["spec"].clone();
    whole["type"] = json!("ClusterIP");
    let (spec, errors) = updated(whole.clone());
    assert_eq!(errors, [""; 0]);
    assert!(spec["ports"][0].get("nodePort").is_none());
    assert!(spec.get("externalTrafficPolicy").is_none());
    whole["type"] = json!("ExternalName");
    whole["externalName"] = json!("example.com");
    let (spec, errors) = updated(whole);
    assert_eq!(errors, [""; 0]);
    assert!(spec.get("clusterIP").is_none() && spec.get("ipFamilies").is_none());
}

#[test]
fn rows_are_those_of_kubectl() {
    let cells = |object: &Value| (KIND.row)(object, Timestamp::UNIX_EPOCH);
    assert_eq!(
        cells(&stored())[1..5],
        ["NodePort", "10.43.0.5", "<none>", "80:30080/TCP"]
    );
    assert_eq!(cells(&stored())[6], "app=web");
    let mut balancer =
        service(json!({"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}));
    assert_eq!(cells(&balancer)[2..5], ["<none>", "<pending>", "80/TCP,53/UDP"]);
    balancer["status"]["loadBalancer"]["ingress"] = json!([{"ip": "1.2.3.4"}]);
    (KIND.default)(&mut balancer);
    assert_eq!(balancer["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(cells(&balancer)[3], "1.2.3.4");
}
