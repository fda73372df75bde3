//! What every cluster has from its first moment on, where its API is, and the repair of what a
//! crash of an older release or a careless hand may have left crooked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::kind::Kind;
use api::kinds;
use api::object;
use api::request::{Request, ResourceRef, Verb};
use api::status::Status;
use api::value;
use serde_json::{Value, json};
use store::{Expect, ListQuery, Op, StoreError};

use super::services::records;
use super::world::full_name;
use super::{Core, refuse, services, text};
use crate::{own, stored};

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// The class of volumes that are folders on nodes: the default until somebody says otherwise.
fn local_path() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": api::storage::LOCAL_PATH, "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    })
}

impl Core {
    /// Makes what is missing, then settles the records of addresses.
    pub(crate) async fn make_basics(&self) -> Result<(), Status> {
        for name in NAMESPACES {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            self.ensure("", "namespaces", "", namespace).await?;
        }
        for (name, value, what) in [
            ("system-node-critical", 2_000_001_000_i64, "node-critical"),
            ("system-cluster-critical", 2_000_000_000, "cluster-critical"),
        ] {
            let class = json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name },
                "value": value, "preemptionPolicy": "PreemptLowerPriority",
                "description": describe(what),
            });
            self.ensure("scheduling.k8s.io", "priorityclasses", "", class)
                .await?;
        }
        self.ensure("storage.k8s.io", "storageclasses", "", local_path())
            .await?;
        self.repair_addresses().await
    }

    /// A request of the server's own.
    pub(super) fn own(
        &self,
        verb: Verb,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Request, Status> {
        let kind = kinds::all()
            .iter()
            .find(|k| k.group == group && k.plural == plural);
        let kind: &Kind = kind.ok_or_else(|| Status::internal(format!("no kind for {plural}")))?;
        let resource = ResourceRef::new(kind.group, kind.version, kind.plural);
        Ok(own::request(verb, resource, namespace, name))
    }

    /// Creates an object unless it exists.
    async fn ensure(&self, group: &str, plural: &str, namespace: &str, new: Value) -> Result<(), Status> {
        let key = stored::key(group, plural, namespace, object::name(&new));
        if self
            .inner
            .store
            .get(&key)
            .await
            .map_err(refuse::status)?
            .is_some()
        {
            return Ok(());
        }
        let mut request = self.own(Verb::Create, group, plural, namespace, "")?;
        request.body = new.to_string().into();
        match self.create(&request).await {
            Err(status) if status.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Creates an object, or replaces it where `differs` says so.
    async fn publish(
        &self,
        group: &str,
        plural: &str,
        new: Value,
        differs: impl Fn(&Value) -> bool,
    ) -> Result<(), Status> {
        let name = object::name(&new).to_owned();
        let key = stored::key(group, plural, "default", &name);
        let Some(entry) = self.inner.store.get(&key).await.map_err(refuse::status)? else {
            return self.ensure(group, plural, "default", new).await;
        };
        if !differs(&text::parse(&entry)?) {
            return Ok(());
        }
        let mut request = self.own(Verb::Update, group, plural, "default", &name)?;
        request.body = new.to_string().into();
        self.change(&request).await.map(drop)
    }

    /// The `kubernetes` Service, and where it leads: to the servers at these addresses, all on one port.
    pub(crate) async fn publish_api(&self, servers: &[IpAddr]) -> Result<(), Status> {
        let config = &self.inner.config;
        let first = self
            .inner
            .service_ranges
            .first()
            .map(|range| range.first().to_string());
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "component": "apiserver", "provider": "kubernetes" },
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": first, "sessionAffinity": "None",
                "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": config.port }],
            },
        });
        let port = config.port;
        self.publish("", "services", service, |live| {
            let target = value::list(live, "spec.ports")
                .first()
                .and_then(|p| value::int(p, "targetPort"));
            target != Some(i64::from(port))
        })
        .await?;
        let (endpoints, slice) = api_endpoints(servers, config.port);
        let differs = |key: &'static str, new: &Value| {
            let new = new.clone();
            move |live: &Value| value::get(live, key) != value::get(&new, key)
        };
        self.publish("", "endpoints", endpoints.clone(), differs("subsets", &endpoints))
            .await?;
        let ports = differs("ports", &slice);
        self.publish("discovery.k8s.io", "endpointslices", slice.clone(), move |live| {
            let addresses = |v: &Value| -> Vec<Value> {
                let all = value::list(v, "endpoints").iter();
                all.map(|e| value::get(e, "addresses").clone()).collect()
            };
            addresses(live) != addresses(&slice) || ports(live)
        })
        .await
    }

    /// Every Service's addresses and ports have a record, and every record a Service.
    async fn repair_addresses(&self) -> Result<(), Status> {
        let store = &self.inner.store;
        let list = async |prefix: String| {
            store
                .list(ListQuery::prefix(prefix))
                .await
                .map(|l| l.entries)
                .map_err(refuse::status)
        };
        let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
        for entry in list(stored::prefix("", "services", "")).await? {
            let service = text::parse(&entry)?;
            for key in records::held(&service) {
                if let Some(first) = wanted.get(&key) {
                    let (first, second) = (full_name(first), full_name(&service));
                    tracing::error!(%key, %first, %second, "two services hold the same address or port");
                    continue;
                }
                wanted.insert(key, service.clone());
            }
        }
        let mut ops = Vec::new();
        let [addresses, ports] = records::record_prefixes();
        for (prefix, shared) in [(addresses, true), (ports, false)] {
            for entry in list(prefix).await? {
                let other = shared && !records::is_own_record(&entry);
                if wanted.remove(&entry.key).is_none() && !other {
                    let expect = Expect::Revision(entry.revision);
                    ops.push(Op::Delete {
                        key: entry.key.clone(),
                        expect,
                    });
                }
            }
        }
        for (key, service) in &wanted {
            ops.push(services::claim(self, key, service)?);
        }
        if ops.is_empty() {
            return Ok(());
        }
        tracing::warn!(changes = ops.len(), "repairing the record of service addresses");
        match store.commit(ops).await {
            // Another server repairs, or a Service is being written: both leave the records right.
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(refuse::status(error)),
        }
    }
}

fn describe(what: &str) -> String {
    match what {
        "node-critical" => {
            "Used for system critical pods that must not be moved from their current node.".to_owned()
        }
        _ => {
            "Used for system critical pods that must run in the cluster, but can be moved to another node if \
              necessary."
                .to_owned()
        }
    }
}

/// The Endpoints and the EndpointSlice of the `kubernetes` Service.
fn api_endpoints(servers: &[IpAddr], port: u16) -> (Value, Value) {
    // Loopback leads everybody to themselves, and is refused as an endpoint.
    let servers: Vec<IpAddr> = servers.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    let subset = json!({
        "addresses": servers.iter().map(|ip| json!({ "ip": ip.to_string() })).collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    let metadata = json!({
        "name": "kubernetes", "namespace": "default",
        "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
    });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": if servers.is_empty() { vec![] } else { vec![subset] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": if servers.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" },
        "endpoints": servers.iter().map(|ip| {
            json!({ "addresses": [ip.to_string()], "conditions": { "ready": true } })
        }).collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    (endpoints, slice)
}
