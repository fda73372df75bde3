//! Plans in words.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::api::discovery::v1::{EndpointHints, EndpointSlice, ForNode, ForZone};

use super::*;
use crate::catalog::Index;
use crate::fixtures::{service, slice};

fn here() -> Here {
    Here {
        node_name: "here".into(),
        zone: Some("east".into()),
        dns_ips: vec![[10, 43, 0, 10].into()],
        families: vec![Family::Ip, Family::Ip6],
    }
}

fn planned<T>(service: Service, slices: Vec<EndpointSlice>, ask: impl Fn(&Entry) -> T) -> T {
    let mut index = Index::default();
    let key = index.apply_service(&Arc::new(service));
    for slice in slices {
        index.apply_slice(&Arc::new(slice));
    }
    ask(index.entry(&key).unwrap())
}

fn lines(service: Service, slices: Vec<EndpointSlice>) -> Vec<String> {
    let plan = planned(service, slices, |entry| plan(entry, &here()));
    let join = |b: &Backends| b.iter().map(|b| b.to_string()).collect::<Vec<_>>().join(" ");
    let line = |(frontend, group): &(Frontend, Group)| match (group.backends.is_empty(), group.nobody) {
        (true, nobody) => format!("{frontend} -> {nobody:?}"),
        (false, _) => format!("{frontend} -> {}", join(&group.backends)),
    };
    plan.iter().map(line).collect()
}

fn web() -> Service {
    service("x", "web", "10.43.0.7", &[("", 80)])
}

fn two() -> EndpointSlice {
    slice("x", "web", "web-1", &["10.64.0.3", "10.64.0.2"], &[("", 8080)])
}

fn with(mut slice: EndpointSlice, index: usize, ready: bool, terminating: bool) -> EndpointSlice {
    let conditions = slice.endpoints.as_mut().unwrap()[index]
        .conditions
        .as_mut()
        .unwrap();
    (conditions.ready, conditions.terminating) = (Some(ready), Some(terminating));
    slice
}

/// The first endpoint is here, the second there.
fn spread() -> EndpointSlice {
    let mut slice = two();
    let endpoints = slice.endpoints.as_mut().unwrap();
    endpoints[0].node_name = Some("here".into());
    endpoints[1].node_name = Some("there".into());
    slice
}

fn balanced(ip: &str) -> Service {
    let mut service = web();
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".into());
    spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
    let ingress = LoadBalancerIngress {
        ip: Some(ip.into()),
        ..Default::default()
    };
    let status = LoadBalancerStatus {
        ingress: Some(vec![ingress]),
    };
    service.status = Some(ServiceStatus {
        load_balancer: Some(status),
        ..Default::default()
    });
    service
}

#[test]
fn ready_endpoints_of_all_slices_in_order() {
    let more = slice("x", "web", "web-2", &["10.64.0.2", "10.64.16.2"], &[("", 8080)]);
    assert_eq!(
        lines(web(), vec![two(), more]),
        ["10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8080 10.64.16.2:8080"]
    );
}

#[test]
fn without_ready_endpoints_the_departing_answer_and_then_nobody() {
    let one_ready = with(two(), 0, false, true);
    assert_eq!(
        lines(web(), vec![one_ready.clone()]),
        ["10.43.0.7:80 Tcp -> 10.64.0.2:8080"]
    );
    let none_ready = with(one_ready, 1, false, false);
    assert_eq!(
        lines(web(), vec![none_ready.clone()]),
        ["10.43.0.7:80 Tcp -> 10.64.0.3:8080"]
    );
    let mut gone = none_ready;
    gone.endpoints.as_mut().unwrap()[0]
        .conditions
        .as_mut()
        .unwrap()
        .serving = Some(false);
    assert_eq!(lines(web(), vec![gone]), ["10.43.0.7:80 Tcp -> Refuse"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol_and_may_differ_between_pods() {
    let named = service("x", "web", "10.43.0.7", &[("http", 80), ("admin", 81)]);
    let ports = [("admin", 9000), ("http", 8080)];
    let one = slice("x", "web", "web-1", &["10.64.0.2"], &ports);
    let other = slice("x", "web", "web-2", &["10.64.0.3"], &[("http", 8081)]);
    assert_eq!(
        lines(named, vec![one, other]),
        [
            "10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8081",
            "10.43.0.7:81 Tcp -> 10.64.0.2:9000"
        ]
    );
}

#[test]
fn traffic_from_outside_has_a_policy_of_its_own_that_those_inside_are_spared() {
    let mut service = balanced("203.0.113.9");
    let spec = service.spec.as_mut().unwrap();
    spec.external_ips = Some(vec!["203.0.113.5".into()]);
    spec.external_traffic_policy = Some("Local".into());
    let both = "10.64.0.2:8080 10.64.0.3:8080";
    let mut expected = vec![format!("10.43.0.7:80 Tcp -> {both}")];
    for place in ["203.0.113.5:80 Tcp", "203.0.113.9:80 Tcp", "node port 30080 Tcp"] {
        expected.push(format!("{place} -> 10.64.0.3:8080"));
        expected.push(format!("{place} from inside -> {both}"));
    }
    assert_eq!(lines(service.clone(), vec![spread()]), expected);
    // Elsewhere only: dropped, as Kubernetes has it. Nowhere: refused.
    let away = with(spread(), 0, false, false);
    let said = lines(service.clone(), vec![away]);
    assert!(
        said.contains(&"203.0.113.9:80 Tcp -> Drop".to_string()),
        "{said:?}"
    );
    let said = lines(service, vec![]);
    assert!(
        said.contains(&"203.0.113.9:80 Tcp -> Refuse".to_string()),
        "{said:?}"
    );
}

#[test]
fn an_internal_policy_of_local_stays_here() {
    let mut service = web();
    service.spec.as_mut().unwrap().internal_traffic_policy = Some("Local".into());
    assert_eq!(
        lines(service.clone(), vec![spread()]),
        ["10.43.0.7:80 Tcp -> 10.64.0.3:8080"]
    );
    let away = with(spread(), 0, false, false);
    assert_eq!(lines(service, vec![away]), ["10.43.0.7:80 Tcp -> Drop"]);
}

#[test]
fn headless_external_names_and_dns_are_not_balanced() {
    assert!(lines(service("x", "web", "None", &[("", 80)]), vec![two()]).is_empty());
    assert!(lines(service("x", "web", "10.43.0.10", &[("", 53)]), vec![two()]).is_empty());
    let mut external = web();
    external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
    assert!(lines(external, vec![two()]).is_empty());
}

#[test]
fn each_family_leads_to_its_own_endpoints() {
    let mut v6 = slice("x", "web", "web-6", &["fd00::1"], &[("", 8080)]);
    v6.address_type = "IPv6".into();
    let odd = slice(
        "x",
        "web",
        "web-7",
        &["what", "10.64.0.9", "fd00::2"],
        &[("", 70000)],
    );
    assert_eq!(
        lines(web(), vec![v6.clone(), odd]),
        ["10.43.0.7:80 Tcp -> Refuse"]
    );
    let mut dual = web();
    let spec = dual.spec.as_mut().unwrap();
    spec.cluster_ips = Some(vec!["10.43.0.7".into(), "fd43::7".into()]);
    spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
    assert_eq!(
        lines(dual, vec![two(), v6]),
        [
            "10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8080",
            "node port 30080 Tcp -> 10.64.0.2:8080 10.64.0.3:8080",
            "[fd43::7]:80 Tcp -> [fd00::1]:8080",
            "node port 30080 Tcp by IPv6 -> [fd00::1]:8080",
        ]
    );
}

#[test]
fn hints_are_followed_if_everybody_has_one() {
    let hint = |zone: &str, node: Option<&str>| EndpointHints {
        for_zones: Some(vec![ForZone { name: zone.into() }]),
        for_nodes: node.map(|name| vec![ForNode { name: name.into() }]),
    };
    let hinted = |first, second| {
        let mut slice = two();
        let endpoints = slice.endpoints.as_mut().unwrap();
        (endpoints[0].hints, endpoints[1].hints) = (first, second);
        lines(web(), vec![slice])
    };
    let (a, b) = (
        "10.43.0.7:80 Tcp -> 10.64.0.3:8080",
        "10.43.0.7:80 Tcp -> 10.64.0.2:8080",
    );
    let both = "10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8080";
    assert_eq!(hinted(Some(hint("east", None)), Some(hint("west", None))), [a]);
    assert_eq!(hinted(Some(hint("east", None)), None), [both]);
    assert_eq!(
        hinted(Some(hint("west", None)), Some(hint("north", None))),
        [both]
    );
    let (there, here) = (hint("east", Some("there")), hint("west", Some("here")));
    assert_eq!(hinted(Some(there), Some(here)), [b]);
}

#[test]
fn a_client_stays_for_as_long_as_the_service_says() {
    let seconds = |seconds| {
        let mut service = web();
        let spec = service.spec.as_mut().unwrap();
        spec.session_affinity = Some("ClientIP".into());
        spec.session_affinity_config = Some(SessionAffinityConfig {
            client_ip: Some(ClientIPConfig {
                timeout_seconds: seconds,
            }),
        });
        planned(service, vec![two()], |entry| plan(entry, &here())[0].1.sticky)
    };
    assert_eq!((seconds(Some(5)), seconds(None)), (Some(5), Some(10_800)));
}

#[test]
fn sources_guard_the_balancers_address_only() {
    let mut service = balanced("203.0.113.9");
    let ranges = ["10.0.0.0/8", " 10.9.0.0/16", "192.0.2.7/32"].map(String::from);
    service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(ranges.into());
    let plan = planned(service, vec![two()], |entry| plan(entry, &here()));
    let guarded: Vec<usize> = plan.iter().map(|(_, group)| group.sources.len()).collect();
    assert_eq!(guarded, [0, 2, 0], "{plan:?}");
    let range = SourceRange::parse("10.9.8.7/16").unwrap();
    assert!(range.contains([10, 9, 255, 1].into()) && !range.contains([10, 10, 0, 1].into()));
    assert!(
        SourceRange::parse("0.0.0.0/0")
            .unwrap()
            .contains([1, 2, 3, 4].into())
    );
    assert!(
        SourceRange::parse("::/0")
            .unwrap()
            .contains("fd00::1".parse().unwrap())
    );
}

#[test]
fn a_health_check_counts_what_is_ready_here() {
    let mut service = balanced("203.0.113.9");
    let spec = service.spec.as_mut().unwrap();
    (spec.external_traffic_policy, spec.health_check_node_port) = (Some("Local".into()), Some(31000));
    let check = |slice| planned(service.clone(), vec![slice], |entry| health(entry, &here()));
    assert_eq!(check(spread()), Some((31000, 1)));
    assert_eq!(check(with(spread(), 0, false, true)), Some((31000, 0)));
    assert_eq!(
        planned(balanced("203.0.113.9"), vec![spread()], |e| health(e, &here())),
        None
    );
}

#[test]
fn host_ports_lead_to_their_pod() {
    let port = |address: Option<&str>| HostPort {
        address: address.map(|ip| ip.parse().unwrap()),
        protocol: Protocol::Udp,
        port: 53,
        target: ([10, 64, 0, 2], 5353).into(),
    };
    let plan = host_ports(&[port(None), port(Some("192.0.2.2")), port(Some("fd00::1"))]);
    let said: Vec<String> = plan
        .iter()
        .map(|(f, g)| format!("{f} -> {}", g.backends[0]))
        .collect();
    assert_eq!(
        said,
        [
            "node port 53 Udp -> 10.64.0.2:5353",
            "192.0.2.2:53 Udp -> 10.64.0.2:5353"
        ]
    );
}
