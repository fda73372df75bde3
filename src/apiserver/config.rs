//! What an API server needs to be told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of an [`crate::ApiServer`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The data folder: `pki/`, `admin.kubeconfig`, `server-token`, `agent-token` go here.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 picks a free one, the same for every address.
    pub listen: Vec<SocketAddr>,
    /// The address that clients elsewhere reach this server at: in the kubeconfig's server URL
    /// unless it is loopback only, in the serving certificate and in the `kubernetes` endpoints.
    pub advertise: IpAddr,
    /// Further names and addresses for the serving certificate.
    pub extra_sans: Vec<String>,
    /// Service addresses, such as `10.43.0.0/16`; the API itself is at the first one.
    pub service_cidr: String,
    /// Node ports, first and last.
    pub node_ports: (u16, u16),
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Whether requests without credentials go on as `system:anonymous`.
    pub anonymous: bool,
    /// Issuer of service-account tokens.
    pub issuer: String,
    /// How long open requests may take to end once the server stops.
    pub shutdown_grace: std::time::Duration,
}

impl ServerConfig {
    /// The defaults, for a server on loopback port 6443.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 6443))],
            advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
            extra_sans: Vec::new(),
            service_cidr: "10.43.0.0/16".into(),
            node_ports: (30000, 32767),
            cluster_domain: "cluster.local".into(),
            anonymous: true,
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            shutdown_grace: std::time::Duration::from_secs(5),
        }
    }

    /// The first address of the service range, at which pods reach the API.
    pub fn service_ip(&self) -> Option<IpAddr> {
        let (address, _) = self.service_cidr.split_once('/')?;
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
        config.service_cidr = "fd00::/112".into();
        assert_eq!(config.service_ip(), "fd00::1".parse().ok());
        config.service_cidr = "nonsense".into();
        assert_eq!(config.service_ip(), None);
    }
}
