//! Cluster DNS.

use std::net::IpAddr;

use base::Tasks;

use crate::catalog::Catalog;
use crate::config::{NetworkConfig, NetworkError};

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name.
    #[error("no such name: {0}")]
    NotFound(String),
    /// No answer from upstream, which may be different later.
    #[error("no name server answered for {0}")]
    Unavailable(String),
    /// Not a domain name.
    #[error("not a domain name: {0}")]
    Invalid(String),
}

/// The node's name server and in-process resolver. Cheap to clone.
#[derive(Clone)]
pub struct Dns {}

impl Dns {
    /// Listens on the cluster DNS address, UDP and TCP port 53; the address
    /// must exist ([`crate::PodNetwork::open`] makes it).
    pub async fn start(
        catalog: &Catalog,
        config: &NetworkConfig,
        tasks: &Tasks,
    ) -> Result<Dns, NetworkError> {
        todo!()
    }

    /// The addresses of `name` as a pod in `namespace` sees it: with the
    /// search domains of [`search_domains`] and [`NDOTS`].
    pub async fn resolve(&self, name: &str, namespace: &str) -> Result<Vec<IpAddr>, ResolveError> {
        todo!()
    }

    /// The addresses of `name` with search domains of the caller's choice.
    pub async fn resolve_with(
        &self,
        name: &str,
        search: &[String],
        ndots: usize,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        todo!()
    }
}

/// Names with fewer dots try the search domains first.
pub const NDOTS: usize = 5;

/// The search domains of a pod: its namespace's, the Services', the cluster's.
pub fn search_domains(namespace: &str, domain: &str) -> Vec<String> {
    vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_string(),
    ]
}

/// A `/etc/resolv.conf` for containers (`dnsPolicy: ClusterFirst`).
pub fn resolv_conf(namespace: &str, config: &NetworkConfig) -> String {
    format!(
        "search {}\nnameserver {}\noptions ndots:{NDOTS}\n",
        search_domains(namespace, &config.domain).join(" "),
        config.dns_ip
    )
}
