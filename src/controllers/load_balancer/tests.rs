//! Who gets which address.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn service(name: &str, kind: &str, ips: &[&str]) -> Service {
    let ingress = |ip: &&str| LoadBalancerIngress {
        ip: Some((*ip).to_owned()),
        ..LoadBalancerIngress::default()
    };
    let status = LoadBalancerStatus {
        ingress: Some(ips.iter().map(ingress).collect()),
    };
    Service {
        metadata: ObjectMeta {
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            ip_families: Some(vec!["IPv4".to_owned()]),
            ..ServiceSpec::default()
        }),
        status: Some(ServiceStatus {
            load_balancer: Some(status),
            ..ServiceStatus::default()
        }),
    }
}

fn with(mut service: Service, change: impl FnOnce(&mut ServiceSpec)) -> Service {
    change(service.spec.as_mut().unwrap());
    service
}

/// What becomes of `web` beside the others: its addresses, or the event.
fn decide(web: Service, others: Vec<Service>) -> String {
    let pools = ["192.0.2.100-192.0.2.101", "fd00::100-fd00::101"];
    let balancers = LoadBalancers {
        pools: pools.map(|pool| pool.parse().unwrap()).into(),
    };
    let view = View::empty();
    others.into_iter().for_each(|other| view.services.apply(other));
    view.services.apply(web);
    let plan = balancers.reconcile(&Key::new("shop", "web"), &view, Timestamp::UNIX_EPOCH);
    let wrote = plan.writes.first().map(|write| match write {
        Write::Patch(target, _, body) => {
            assert_eq!(target.subresource, "status");
            let ingress = &body["status"]["loadBalancer"]["ingress"];
            let one = |i: &Value| {
                assert_eq!(i["ipMode"], "VIP");
                i["ip"].as_str().unwrap().to_owned()
            };
            ingress.as_array().map_or("cleared".to_owned(), |all| {
                all.iter().map(one).collect::<Vec<_>>().join(" ")
            })
        }
        other => panic!("{other:?}"),
    });
    let told = plan
        .events
        .first()
        .map(|(_, notice)| format!("{}: {}", notice.reason, notice.message));
    wrote.or(told).unwrap_or_default()
}

fn fresh() -> Service {
    service("web", "LoadBalancer", &[])
}

#[test]
fn the_first_free_address_and_then_always_the_same() {
    assert_eq!(decide(fresh(), vec![]), "192.0.2.100");
    let other = service("other", "LoadBalancer", &["192.0.2.100"]);
    assert_eq!(decide(fresh(), vec![other.clone()]), "192.0.2.101");
    assert_eq!(
        decide(service("web", "LoadBalancer", &["192.0.2.101"]), vec![]),
        ""
    );
    let dual = with(fresh(), |spec| {
        spec.ip_families = Some(vec!["IPv6".into(), "IPv4".into()])
    });
    assert_eq!(decide(dual, vec![other]), "fd00::100 192.0.2.101");
}

#[test]
fn exhaustion_is_told_and_a_freed_address_goes_to_who_waits() {
    let all = ["192.0.2.100", "192.0.2.101"].map(|ip| service(ip, "LoadBalancer", &[ip]));
    assert_eq!(
        decide(fresh(), all.to_vec()),
        "SyncLoadBalancerFailed: Error syncing load balancer: failed to ensure load balancer: \
         no address is left in the pools"
    );
    let former = service("192.0.2.101", "ClusterIP", &["192.0.2.101"]);
    assert_eq!(decide(fresh(), vec![all[0].clone(), former]), "192.0.2.101");
    let view = View::empty();
    view.services.apply(fresh());
    view.services.apply(all[0].clone());
    assert_eq!(
        keys_for_service(&all[0], &view),
        [Key::new("shop", "192.0.2.100"), Key::new("shop", "web")]
    );
}

#[test]
fn another_type_gives_the_address_back() {
    assert_eq!(
        decide(service("web", "ClusterIP", &["192.0.2.100"]), vec![]),
        "cleared"
    );
    assert_eq!(decide(service("web", "ClusterIP", &["198.51.100.1"]), vec![]), "");
    assert_eq!(decide(service("web", "ClusterIP", &[]), vec![]), "");
}

#[test]
fn an_address_asked_for_is_given_or_refused() {
    let asked = |ip: &str| with(fresh(), |spec| spec.load_balancer_ip = Some(ip.to_owned()));
    assert_eq!(decide(asked("192.0.2.101"), vec![]), "192.0.2.101");
    let moved = with(service("web", "LoadBalancer", &["192.0.2.100"]), |spec| {
        spec.load_balancer_ip = Some("192.0.2.101".to_owned());
    });
    assert_eq!(decide(moved, vec![]), "192.0.2.101");
    let other = service("other", "LoadBalancer", &["192.0.2.101"]);
    assert!(decide(asked("192.0.2.101"), vec![other]).ends_with("is used by service shop/other"));
    assert!(decide(asked("198.51.100.1"), vec![]).ends_with("198.51.100.1 is not in a pool of addresses"));
    assert!(decide(asked("x"), vec![]).ends_with("spec.loadBalancerIP \"x\" is not an address"));
}

#[test]
fn other_classes_are_not_ours() {
    let class = |class: &str| with(fresh(), |spec| spec.load_balancer_class = Some(class.to_owned()));
    assert_eq!(decide(class("example.com/other"), vec![]), "");
    assert_eq!(decide(class(CLASS), vec![]), "192.0.2.100");
}
