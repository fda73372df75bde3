//! What a node is told to be: the complete configuration, defaults filled in.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use network::Cidr;
use serde::{Deserialize, Deserializer};

/// Where the API listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// One address, or `None` for the node's own and 127.0.0.1.
    pub address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.trim_start_matches(':').parse() {
            return Ok(Self { address: None, port });
        }
        let address: std::net::SocketAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is neither a port nor ADDRESS:PORT"))?;
        Ok(Self {
            address: Some(address.ip()),
            port: address.port(),
        })
    }
}

/// Comes from YAML as it comes from a flag: a scalar, read as text.
impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Scalar {
            Number(u64),
            Text(String),
        }
        let text = match Scalar::deserialize(deserializer)? {
            Scalar::Number(n) => n.to_string(),
            Scalar::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything a node needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for everything the node keeps.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: Listen,
    /// Range of all pods in the cluster.
    pub pod_cidr: Cidr,
    /// Range of ClusterIPs.
    pub service_cidr: Cidr,
    /// Prefix length of a node's share of `pod_cidr`.
    pub node_cidr_mask_size: u8,
    /// Name of the node.
    pub node_name: String,
    /// Address of the node; `None` to find it.
    pub node_ip: Option<IpAddr>,
    /// Address at which others reach the server; `None` for the node's.
    pub advertise_address: Option<IpAddr>,
    /// Address of DNS; `None` for the tenth of `service_cidr`.
    pub cluster_dns: Option<IpAddr>,
    /// Domain under which Services have names.
    pub cluster_domain: String,
    /// Time without heartbeat after which a node counts as lost.
    pub node_monitor_grace_period: Duration,
    /// Wait before the first restart of a crashed container.
    pub crash_back_off: Duration,
    /// What pods may use of the machine, and when they have to go.
    pub limits: agent::Limits,
    /// Server to join; `agent` only.
    pub server: Option<String>,
    /// File with the token to join with; `agent` only.
    pub token_file: Option<PathBuf>,
    /// Registries spoken to without TLS.
    pub insecure_registries: Vec<String>,
}

impl Config {
    /// The defaults, with the state in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: Listen {
                address: None,
                port: 6443,
            },
            pod_cidr: Cidr::new(Ipv4Addr::new(10, 64, 0, 0), 10),
            service_cidr: Cidr::new(Ipv4Addr::new(10, 43, 0, 0), 16),
            node_cidr_mask_size: 20,
            node_name: host_name(),
            node_ip: None,
            advertise_address: None,
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            node_monitor_grace_period: Duration::from_secs(40),
            crash_back_off: Duration::from_secs(10),
            limits: agent::Limits::default(),
            server: None,
            token_file: None,
            insecure_registries: Vec::new(),
        }
    }

    /// Says what contradicts itself, with the way out.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), String> {
        if self.pod_cidr.overlaps(&self.service_cidr) {
            return Err(format!(
                "--pod-cidr {} and --service-cidr {} overlap: choose two ranges that share no address",
                self.pod_cidr, self.service_cidr
            ));
        }
        if self.node_cidr_mask_size < self.pod_cidr.bits() || self.node_cidr_mask_size > 30 {
            return Err(format!(
                "--node-cidr-mask-size {} must lie between the {} of --pod-cidr and 30",
                self.node_cidr_mask_size,
                self.pod_cidr.bits()
            ));
        }
        if self.limits.log_files < 2 {
            return Err(format!(
                "--container-log-max-files {} must be at least 2: the current file and one before it",
                self.limits.log_files
            ));
        }
        if self.service_cidr.bits() > 28 {
            return Err(format!(
                "--service-cidr {} is too small: give it at least 16 addresses",
                self.service_cidr
            ));
        }
        Ok(())
    }

    /// The address of the API's own Service.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        self.service_cidr.nth(1).unwrap_or(self.service_cidr.base())
    }

    /// The address of the cluster's DNS.
    pub fn dns_ip(&self) -> IpAddr {
        self.cluster_dns
            .unwrap_or_else(|| IpAddr::V4(self.service_cidr.nth(10).unwrap_or(self.service_cidr.base())))
    }
}

/// The host's name as a node name: lower case, as Kubernetes wants it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_lowercase())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_parses_prints_and_counts() {
        let cidr: Cidr = "10.43.0.0/16".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.43.0.0/16");
        assert_eq!(cidr.nth(10), Some(Ipv4Addr::new(10, 43, 0, 10)));
        assert_eq!(cidr.nth(65_536), None);
        assert_eq!("10.0.0.0/32".parse::<Cidr>().unwrap().nth(1), None);
        assert!("10.43.0.0".parse::<Cidr>().is_err());
        assert!("10.43.0.0/33".parse::<Cidr>().is_err());
        assert!(
            "10.43.0.1/16"
                .parse::<Cidr>()
                .unwrap_err()
                .to_string()
                .contains("10.43.0.0/16")
        );
    }

    #[test]
    fn listen_takes_a_port_or_an_address() {
        assert_eq!(
            "7443".parse::<Listen>().unwrap(),
            Listen {
                address: None,
                port: 7443
            }
        );
        assert_eq!(":7443".parse::<Listen>().unwrap().port, 7443);
        assert_eq!(
            "127.0.0.1:1".parse::<Listen>().unwrap().address,
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        );
        assert!("nowhere".parse::<Listen>().is_err());
    }

    #[test]
    fn overlapping_ranges_are_refused() {
        let mut config = Config::new("/tmp/x");
        assert_eq!(config.check(), Ok(()));
        config.service_cidr = "10.64.0.0/16".parse().unwrap();
        assert!(config.check().unwrap_err().contains("overlap"));
    }
}
