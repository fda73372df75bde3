//! Cluster DNS: the cluster's names from the catalog, everything else from
//! upstream, for pods over the wire and for Wasm guests in-process. It works
//! while the API is away.

mod lookup;
mod server;
mod upstream;
pub mod zone;

use std::net::IpAddr;
use std::sync::Arc;

use base::{OnError, Tasks};
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::catalog::Catalog;
use crate::config::{NetworkConfig, NetworkError};
use lookup::Lookup;
use upstream::Upstream;
use zone::Zone;

const PORT: u16 = 53;
/// Bytes of a name in its dotted form.
const NAME_BYTES_MAX: usize = 253;

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
pub struct Dns {
    lookup: Lookup,
    domain: Arc<str>,
    /// What guests can make use of.
    kinds: &'static [RecordType],
}

impl Dns {
    /// Listens on the cluster DNS address, UDP and TCP port 53; the address
    /// must exist ([`crate::PodNetwork::open`] makes it).
    pub async fn start(
        catalog: &Catalog,
        config: &NetworkConfig,
        tasks: &Tasks,
    ) -> Result<Dns, NetworkError> {
        let dns = Dns::resolver(catalog, config);
        let mut server = server::listen((config.dns_ip, PORT).into(), dns.lookup.clone()).await?;
        tasks.spawn("dns", OnError::Shutdown, async move {
            server.block_until_done().await
        });
        Ok(dns)
    }

    /// Resolves in-process without listening.
    pub fn resolver(catalog: &Catalog, config: &NetworkConfig) -> Dns {
        let lookup = Lookup {
            catalog: catalog.clone(),
            zone: Arc::new(Zone::new(config)),
            upstream: Arc::new(Upstream::new(config.resolv_conf.clone(), config.dns_ip)),
        };
        Dns {
            lookup,
            domain: config.domain.as_str().into(),
            kinds: match config.has_ipv6() {
                true => &[RecordType::A, RecordType::AAAA],
                false => &[RecordType::A],
            },
        }
    }

    /// The addresses of `name` as a pod in `namespace` sees it: with the
    /// search domains of [`search_domains`] and [`NDOTS`].
    pub async fn resolve(&self, name: &str, namespace: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.resolve_with(name, &search_domains(namespace, &self.domain), NDOTS)
            .await
    }

    /// The addresses of `name` with search domains of the caller's choice.
    /// Addresses in text form and `localhost` stand for themselves.
    pub async fn resolve_with(
        &self,
        name: &str,
        search: &[String],
        ndots: usize,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        let mut unavailable = false;
        for candidate in candidates(name, search, ndots) {
            let Some(full) = zone::parse(&candidate) else {
                return Err(ResolveError::Invalid(name.to_string()));
            };
            let mut addresses = Vec::new();
            for kind in self.kinds {
                let reply = self.lookup.ask(&Query::query(full.clone(), *kind)).await;
                addresses.extend(reply.addresses());
                unavailable |= !matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
            }
            if !addresses.is_empty() {
                return Ok(addresses);
            }
        }
        match unavailable {
            true => Err(ResolveError::Unavailable(name.to_string())),
            false => Err(ResolveError::NotFound(name.to_string())),
        }
    }
}

/// The absolute names that `name` may mean, in the order in which they are
/// tried (resolv.conf(5), `search` and `ndots`).
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        // Not a name at all: the first look at it says so.
        return vec![".".repeat(2)];
    }
    if name.ends_with('.') {
        return vec![name.to_string()];
    }
    let fits = |candidate: &String| candidate.len() <= NAME_BYTES_MAX;
    let mut list: Vec<String> = search
        .iter()
        .map(|domain| format!("{name}.{domain}."))
        .filter(fits)
        .collect();
    let first = name.matches('.').count() >= ndots;
    list.insert(if first { 0 } else { list.len() }, format!("{name}."));
    list
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

#[cfg(test)]
mod tests;
