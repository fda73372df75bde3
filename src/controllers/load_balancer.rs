//! Addresses for Services of type LoadBalancer, from pools of our own. The
//! nodes announce them on the local network.
//!
//! What a Service has stands in its status, and nowhere else: an address is
//! free again with the Service, or with its type.

mod pool;

use std::net::IpAddr;
use std::sync::Arc;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::{Value, json};

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

pub use pool::{AddressPool, PoolError};

/// The class that asks for us by name; a Service without a class is ours too.
pub const CLASS: &str = "coracle.dev/lan";
/// Reasons and words of Kubernetes' service controller.
const FAILED: &str = "SyncLoadBalancerFailed";
const ENSURED: &str = "EnsuredLoadBalancer";
const DELETED: &str = "DeletedLoadBalancer";

/// Hands out addresses of load balancers; keyed by Service. Runs with one
/// worker, as two at once could hand out the same address.
pub struct LoadBalancers {
    /// Where they come from, in this order; without any nothing is handed out.
    pub pools: Vec<AddressPool>,
}

impl Reconciler for LoadBalancers {
    const NAME: &'static str = "service-controller";
    const QUEUE: &'static str = "service";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let found = view.services.get(&key.namespace, &key.name);
        let Some(service) = found.filter(|service| !self.pools.is_empty() && !is_going(service.as_ref()))
        else {
            return plan;
        };
        let held = addresses(&service);
        if !is_balancer(&service) {
            // What somebody else has put there is theirs to take away.
            if !held.is_empty() && held.iter().all(|ip| self.is_ours(*ip)) {
                plan.write(status(&service, &[]));
                plan.tell(
                    service.as_ref(),
                    EventType::Normal,
                    DELETED,
                    "Deleted load balancer".to_owned(),
                );
            }
            return plan;
        }
        match is_our_class(&service).then(|| self.wanted(&service, &held, view)) {
            None => {}
            Some(Ok(wanted)) if wanted == held => {}
            Some(Ok(wanted)) => {
                plan.write(status(&service, &wanted));
                let told = "Ensured load balancer".to_owned();
                plan.tell(service.as_ref(), EventType::Normal, ENSURED, told);
            }
            Some(Err(why)) => {
                let told = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                plan.tell(service.as_ref(), EventType::Warning, FAILED, told);
            }
        }
        plan
    }
}

impl LoadBalancers {
    fn is_ours(&self, ip: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(ip))
    }

    /// One address for each family of the Service that pools have: the one
    /// asked for, the one it has, or the first that is free.
    fn wanted(&self, service: &Service, held: &[IpAddr], view: &View) -> Result<Vec<IpAddr>, String> {
        let others = taken(service, view);
        let asked = asked(service)?;
        if let Some(ip) = asked.filter(|ip| !self.is_ours(*ip)) {
            return Err(format!("{ip} is not in a pool of addresses"));
        }
        if let Some((_, holder)) = asked.and_then(|ip| others.iter().find(|(taken, _)| *taken == ip)) {
            return Err(format!("the address asked for is used by service {holder}"));
        }
        let free = |ip: &IpAddr| !others.iter().any(|(taken, _)| taken == ip);
        let mut wanted = Vec::new();
        for is_ipv6 in families(service) {
            let fits = |ip: &IpAddr| ip.is_ipv6() == is_ipv6;
            let kept = || {
                held.iter()
                    .copied()
                    .find(|ip| fits(ip) && self.is_ours(*ip) && free(ip))
            };
            let fresh = || {
                let pools = self.pools.iter().filter(|pool| pool.is_ipv6() == is_ipv6);
                pools.flat_map(AddressPool::iter).find(free)
            };
            wanted.extend(asked.filter(fits).or_else(kept).or_else(fresh));
        }
        if wanted.is_empty() {
            return Err("no address is left in the pools".to_owned());
        }
        Ok(wanted)
    }
}

/// `spec.loadBalancerIP`.
fn asked(service: &Service) -> Result<Option<IpAddr>, String> {
    let text = spec(service)
        .and_then(|spec| spec.load_balancer_ip.as_deref())
        .unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| format!("spec.loadBalancerIP {text:?} is not an address");
    text.parse().map(Some).map_err(wrong)
}

/// Whether each family of a Service is IPv6, the primary first.
fn families(service: &Service) -> Vec<bool> {
    let listed = spec(service).and_then(|spec| spec.ip_families.as_ref());
    let families: Vec<bool> = listed
        .into_iter()
        .flatten()
        .map(|family| family == "IPv6")
        .collect();
    if families.is_empty() {
        vec![false]
    } else {
        families
    }
}

/// Addresses of other load balancers, with the names of their Services.
fn taken(service: &Service, view: &View) -> Vec<(IpAddr, String)> {
    let own = Key::of(service);
    let others = view
        .services
        .list()
        .into_iter()
        .filter(|other| is_balancer(other));
    let mut taken = Vec::new();
    for other in others {
        let key = Key::of(other.as_ref());
        if key != own {
            let name = format!("{}/{}", key.namespace, key.name);
            taken.extend(addresses(&other).into_iter().map(|ip| (ip, name.clone())));
        }
    }
    taken
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let ips = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

/// The status that says these addresses; packets come with them as their
/// destination.
fn status(service: &Service, ips: &[IpAddr]) -> Write {
    let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let ingress = if ingress.is_empty() {
        Value::Null
    } else {
        ingress.into()
    };
    Write::merge_status(service, json!({"status": {"loadBalancer": {"ingress": ingress}}}))
}

fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

fn is_balancer(service: &Service) -> bool {
    spec(service).is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

fn is_our_class(service: &Service) -> bool {
    let class = spec(service).and_then(|spec| spec.load_balancer_class.as_deref());
    class.is_none_or(|class| class == CLASS)
}

/// A changed Service, and all that wait for an address which it may have freed.
pub fn keys_for_service(service: &Service, view: &View) -> Vec<Key> {
    let own = Key::of(service);
    let waits = |other: &Arc<Service>| is_balancer(other) && addresses(other).is_empty();
    let waiting = view.services.list().into_iter().filter(waits);
    let others = waiting
        .map(|other| Key::of(other.as_ref()))
        .filter(|key| *key != own);
    std::iter::once(own.clone())
        .chain(others.collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests;
