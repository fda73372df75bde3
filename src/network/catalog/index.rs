//! Services with their endpoints, findable by name and by address. Pure: it
//! is told of changes and answers questions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sys::nft::Family;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A Service and what stands behind it. Slices may come before their Service
/// and stay after it.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The Service.
    pub service: Option<Arc<Service>>,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
}

/// All Services.
#[derive(Debug, Default)]
pub struct Index {
    entries: HashMap<ServiceKey, Entry>,
    /// Services by each of their cluster addresses.
    by_address: HashMap<IpAddr, ServiceKey>,
    /// Services by their endpoints' addresses.
    by_endpoint: HashMap<IpAddr, HashSet<ServiceKey>>,
    /// How many Services a namespace has.
    namespaces: HashMap<String, usize>,
}

impl Entry {
    /// Its slices of one family.
    pub fn slices(&self, family: Family) -> impl Iterator<Item = &EndpointSlice> {
        self.slices
            .values()
            .map(|slice| &**slice)
            .filter(move |slice| family_of(slice) == Some(family))
    }

    /// Its endpoints of both families with their first address.
    pub fn endpoints(&self) -> impl Iterator<Item = (IpAddr, &Endpoint)> {
        self.slices.values().flat_map(|slice| endpoints(slice))
    }
}

impl Index {
    /// A Service came or changed.
    pub fn apply_service(&mut self, service: &Arc<Service>) -> ServiceKey {
        let key = key_of(&service.metadata);
        let entry = self.entries.entry(key.clone()).or_default();
        let old = entry.service.replace(service.clone());
        match old {
            Some(old) => self.forget_addresses(&key, &old),
            None => *self.namespaces.entry(key.namespace.clone()).or_default() += 1,
        }
        for ip in cluster_ips(service) {
            self.by_address.insert(ip, key.clone());
        }
        key
    }

    /// A Service went.
    pub fn delete_service(&mut self, service: &Service) -> ServiceKey {
        let key = key_of(&service.metadata);
        if let Some(old) = self.entries.get_mut(&key).and_then(|entry| entry.service.take()) {
            self.forget_addresses(&key, &old);
            if let Some(count) = self.namespaces.get_mut(&key.namespace) {
                *count -= 1;
                if *count == 0 {
                    self.namespaces.remove(&key.namespace);
                }
            }
        }
        self.prune(&key);
        key
    }

    /// A slice came or changed; `None` if it belongs to no Service.
    pub fn apply_slice(&mut self, slice: &Arc<EndpointSlice>) -> Option<ServiceKey> {
        let key = owner(slice)?;
        let name = slice.metadata.name.clone().unwrap_or_default();
        let entry = self.entries.entry(key.clone()).or_default();
        let old = entry.slices.insert(name, slice.clone());
        self.reindex_endpoints(&key, old.as_deref());
        for (ip, _) in endpoints(slice) {
            self.by_endpoint.entry(ip).or_default().insert(key.clone());
        }
        Some(key)
    }

    /// A slice went, or belongs to another Service now.
    pub fn delete_slice(&mut self, slice: &EndpointSlice) -> Option<ServiceKey> {
        let key = owner(slice)?;
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let old = self
            .entries
            .get_mut(&key)
            .and_then(|entry| entry.slices.remove(name));
        self.reindex_endpoints(&key, old.as_deref());
        self.prune(&key);
        Some(key)
    }

    /// Everything known of a Service.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.entry(&ServiceKey {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// Everything known of a Service.
    pub fn entry(&self, key: &ServiceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All keys, those with slices only too.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.entries.keys()
    }

    /// The Service with that cluster address.
    pub fn at_address(&self, ip: IpAddr) -> Option<&ServiceKey> {
        self.by_address.get(&ip)
    }

    /// The Services with an endpoint of that address, in order of their names.
    pub fn at_endpoint(&self, ip: IpAddr) -> Vec<&ServiceKey> {
        let mut keys: Vec<&ServiceKey> = self.by_endpoint.get(&ip).into_iter().flatten().collect();
        keys.sort();
        keys
    }

    /// Whether a namespace has a Service.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    fn forget_addresses(&mut self, key: &ServiceKey, old: &Service) {
        for ip in cluster_ips(old) {
            if self.by_address.get(&ip) == Some(key) {
                self.by_address.remove(&ip);
            }
        }
    }

    /// Takes out what an old slice had and no other slice of the Service has.
    fn reindex_endpoints(&mut self, key: &ServiceKey, old: Option<&EndpointSlice>) {
        let Some(old) = old else { return };
        let still: HashSet<IpAddr> = self
            .entries
            .get(key)
            .into_iter()
            .flat_map(Entry::endpoints)
            .map(|(ip, _)| ip)
            .collect();
        for (ip, _) in endpoints(old).filter(|(ip, _)| !still.contains(ip)) {
            if let Some(keys) = self.by_endpoint.get_mut(&ip) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_endpoint.remove(&ip);
                }
            }
        }
    }

    fn prune(&mut self, key: &ServiceKey) {
        if self
            .entries
            .get(key)
            .is_some_and(|e| e.service.is_none() && e.slices.is_empty())
        {
            self.entries.remove(key);
        }
    }
}

/// The cluster addresses of a Service; none if it is headless.
pub fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut ips: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}

/// Whether a Service's name stands for its endpoints themselves.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether an endpoint takes traffic; what is not said counts as yes.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false)
}

/// Whether an endpoint that is being taken down still answers: used when
/// nobody else does.
pub fn is_serving_while_terminating(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else {
        return false;
    };
    conditions.terminating == Some(true) && conditions.serving == Some(true)
}

/// The family of a slice's addresses; `None` if it holds names.
pub fn family_of(slice: &EndpointSlice) -> Option<Family> {
    match slice.address_type.as_str() {
        "IPv4" => Some(Family::Ip),
        "IPv6" => Some(Family::Ip6),
        _ => None,
    }
}

/// The first address of an endpoint, if it is of that family.
pub fn address_of(endpoint: &Endpoint, family: Family) -> Option<IpAddr> {
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    (Family::of(ip) == family).then_some(ip)
}

fn endpoints(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, &Endpoint)> {
    let family = family_of(slice);
    let list = slice.endpoints.iter().flatten();
    list.filter_map(move |endpoint| Some((address_of(endpoint, family?)?, endpoint)))
}

fn owner(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    Some(ServiceKey {
        namespace: slice.metadata.namespace.clone().unwrap_or_default(),
        name,
    })
}

fn key_of(metadata: &ObjectMeta) -> ServiceKey {
    ServiceKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{service, slice};

    #[test]
    fn services_are_found_by_name_and_address() {
        let mut index = Index::default();
        let key = index.apply_service(&Arc::new(service("shop", "web", "10.43.0.7", &[("", 80)])));
        assert_eq!(index.at_address([10, 43, 0, 7].into()), Some(&key));
        index.apply_service(&Arc::new(service("shop", "web", "10.43.0.8", &[("", 80)])));
        assert_eq!(index.at_address([10, 43, 0, 7].into()), None);
        assert!(index.has_namespace("shop"));
        index.delete_service(&service("shop", "web", "10.43.0.8", &[]));
        assert!(!index.has_namespace("shop"));
        assert!(index.get("shop", "web").is_none());
    }

    #[test]
    fn endpoints_are_found_while_any_slice_has_them() {
        let mut index = Index::default();
        let ip = IpAddr::from([10, 64, 0, 2]);
        index.apply_slice(&Arc::new(slice(
            "shop",
            "web",
            "web-1",
            &["10.64.0.2"],
            &[("", 8080)],
        )));
        index.apply_slice(&Arc::new(slice(
            "shop",
            "web",
            "web-2",
            &["10.64.0.2"],
            &[("", 8080)],
        )));
        index.delete_slice(&slice("shop", "web", "web-1", &["10.64.0.2"], &[]));
        assert_eq!(index.at_endpoint(ip).len(), 1);
        index.apply_slice(&Arc::new(slice(
            "shop",
            "web",
            "web-2",
            &["10.64.0.3"],
            &[("", 8080)],
        )));
        assert!(index.at_endpoint(ip).is_empty());
    }
}
