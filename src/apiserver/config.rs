//! What an API server needs to be told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::telemetry::Metrics;
use base::{Clock, Random, SystemClock, SystemRandom};

use crate::admission;
use crate::audit::AuditSettings;
use crate::authn::oidc::OidcSettings;
use crate::authz::config::AuthorizationSettings;
use crate::fairness::Inflight;
use crate::switches::Switches;

/// Connections that a server lets be open at once, unless it is told otherwise.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Watches that a server's clients may have at once, unless it is told otherwise.
pub const WATCHES_MAX: usize = 100_000;

/// Settings of an [`crate::ApiServer`].
#[derive(Clone)]
pub struct ServerConfig {
    /// The data folder: `pki/`, `admin.kubeconfig`, `server-token`, `agent-token` go here.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 picks a free one, the same for every address.
    pub listen: Vec<SocketAddr>,
    /// The address that clients elsewhere reach this server at: in the kubeconfig's server URL
    /// when the server listens there, in the serving certificate and in the `kubernetes` endpoints.
    pub advertise: IpAddr,
    /// There is no API here, and there are only the keys that a witness has.
    pub witness: bool,
    /// The server's name among the servers of its cluster.
    pub name: String,
    /// Settings that all servers of the cluster share, handed to a new one as they are.
    pub shared: serde_json::Value,
    /// Further names and addresses for the serving certificate.
    pub extra_sans: Vec<String>,
    /// Service addresses, such as `10.43.0.0/16`; the API itself is at the first one.
    pub service_cidr: String,
    /// Node ports, first and last.
    pub node_ports: (u16, u16),
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Who else knows users.
    pub authentication: Authentication,
    /// Who says whether users may.
    pub authorization: AuthorizationSettings,
    /// Issuer, and default audience, of service-account tokens; empty for
    /// `https://kubernetes.default.svc.` and the cluster domain.
    pub issuer: String,
    /// Which versions of the API are served.
    pub switches: Switches,
    /// What admission plugins are told.
    pub admission: admission::Settings,
    /// What is recorded of requests, and where.
    pub audit: AuditSettings,
    /// File that says which resources are kept encrypted, and with which keys.
    pub encryption: Option<PathBuf>,
    /// How many requests are carried out at once.
    pub inflight: Inflight,
    /// Seconds that events are kept.
    pub event_ttl_seconds: u32,
    /// Connections that may be open at once; half of them from one address.
    pub connections_max: usize,
    /// Watches that clients may have at once; half of them one user.
    pub watches_max: usize,
    /// How long open requests may take to end once the server stops.
    pub shutdown_grace: Duration,
    /// What `/metrics` shows; share it so that other parts show up there too.
    pub metrics: Metrics,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where names and UIDs come from.
    pub random: Arc<dyn Random>,
}

/// Who knows users besides this server.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// File with an `AuthenticationConfiguration`: issuers of tokens, and who may ask without credentials (anybody,
    /// if it does not say).
    pub config: Option<PathBuf>,
    /// File in the form of a kubeconfig that leads to somebody who is asked about tokens.
    pub token_webhook: Option<PathBuf>,
    /// One issuer by settings; none beside a file.
    pub oidc: OidcSettings,
}

impl ServerConfig {
    /// The defaults, for a server on loopback port 6443.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 6443))],
            advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
            witness: false,
            name: "server".into(),
            shared: serde_json::Value::Null,
            extra_sans: Vec::new(),
            service_cidr: "10.43.0.0/16".into(),
            node_ports: (30000, 32767),
            cluster_domain: "cluster.local".into(),
            authentication: Authentication::default(),
            authorization: AuthorizationSettings::default(),
            issuer: String::new(),
            switches: Switches::default(),
            admission: admission::Settings::default(),
            audit: AuditSettings::default(),
            encryption: None,
            inflight: Inflight::default(),
            event_ttl_seconds: 3600,
            connections_max: CONNECTIONS_MAX,
            watches_max: WATCHES_MAX,
            shutdown_grace: Duration::from_secs(5),
            metrics: Metrics::new(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }

    /// The issuer of service-account tokens.
    pub fn issuer(&self) -> String {
        match self.issuer.as_str() {
            "" => format!("https://kubernetes.default.svc.{}", self.cluster_domain),
            issuer => issuer.to_owned(),
        }
    }

    /// The first address of the service range, at which pods reach the API.
    pub fn service_ip(&self) -> Option<IpAddr> {
        let first = self.service_cidr.split(',').next()?;
        let (address, _) = first.trim().split_once('/')?;
        match address.parse().ok()? {
            IpAddr::V4(v4) => Some(IpAddr::V4(Ipv4Addr::from(u32::from(v4).checked_add(1)?))),
            IpAddr::V6(v6) => Some(IpAddr::V6((u128::from(v6).checked_add(1)?).into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_at_the_first_service_address() {
        let mut config = ServerConfig::new("/nowhere");
        assert_eq!(config.service_ip(), Some(IpAddr::from([10, 43, 0, 1])));
        config.service_cidr = "fd00::/112,10.43.0.0/16".into();
        assert_eq!(config.service_ip(), "fd00::1".parse().ok());
        config.service_cidr = "nonsense".into();
        assert_eq!(config.service_ip(), None);
    }

    #[test]
    fn the_issuer_follows_the_domain() {
        let mut config = ServerConfig::new("/nowhere");
        config.cluster_domain = "edge.local".into();
        assert_eq!(config.issuer(), "https://kubernetes.default.svc.edge.local");
        config.issuer = "https://issuer.example".into();
        assert_eq!(config.issuer(), "https://issuer.example");
    }
}
