//! What a node is told to be: the complete configuration, defaults filled in.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use api::cidr::{Addresses, Cidr, Ranges};
pub use apiserver::Switches;
pub use apiserver::admission::PodSecuritySettings;
pub use apiserver::audit::AuditSettings;
pub use apiserver::authz::config::AuthorizationSettings;
pub use apiserver::config::{Authentication, WATCHES_MAX};
pub use apiserver::fairness::Inflight;
pub use controllers::load_balancer::AddressPool;
pub use controllers::node_lifecycle::EvictionPace;
pub use network::{PodRouting, ServiceProxy};

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

/// Everything a node needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for everything the node keeps.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: Listen,
    /// Ranges of all pods in the cluster; IPv4, and IPv6 beside it.
    pub pod_cidr: Ranges,
    /// Ranges of ClusterIPs, of families that pods have.
    pub service_cidr: Ranges,
    /// Addresses for Services of type LoadBalancer.
    pub load_balancer_pools: Vec<AddressPool>,
    /// Prefix length of a node's share of the IPv4 range in `pod_cidr`.
    pub node_cidr_mask_size: u8,
    /// The same of its IPv6 range.
    pub node_cidr_mask_size_ipv6: u8,
    /// How packets for pods of other nodes travel.
    pub pod_routing: PodRouting,
    /// Who balances Services on this node.
    pub service_proxy: ServiceProxy,
    /// Name of the node.
    pub node_name: String,
    /// Addresses of the node; `None` to find them.
    pub node_ip: Option<Addresses>,
    /// Address at which others reach the server; `None` for the node's.
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses by which clients reach the server, for its certificate.
    pub tls_sans: Vec<String>,
    /// Address of DNS; `None` for the tenth of `service_cidr`.
    pub cluster_dns: Option<IpAddr>,
    /// Domain under which Services have names.
    pub cluster_domain: String,
    /// How long what was is kept for watches and lists, at least; twice that at most.
    pub compaction_interval: Duration,
    /// Time without heartbeat after which a node counts as lost.
    pub node_monitor_grace_period: Duration,
    /// How fast lost nodes are emptied.
    pub eviction_pace: EvictionPace,
    /// Seconds for which pods stay on a node that is not ready, unless they say themselves.
    pub not_ready_toleration_seconds: u32,
    /// Seconds for which pods stay on a node that cannot be reached, unless they say themselves.
    pub unreachable_toleration_seconds: u32,
    /// Wait before the first restart of a crashed container.
    pub crash_back_off: Duration,
    /// Bytes that the store may take, history included; 0 for no limit.
    pub quota_bytes: u64,
    /// Which versions of the API are served; the same on every server.
    pub switches: Switches,
    /// What is admitted, recorded and encrypted.
    pub safety: Safety,
    /// Who knows users besides the cluster itself.
    pub authentication: Authentication,
    /// For how long the server goes on answering after it was told to end.
    pub shutdown_delay: Duration,
    /// Who says whether users may.
    pub authorization: AuthorizationSettings,
    /// How many requests are carried out at once.
    pub inflight: Inflight,
    /// Watches that clients of this server may have at once; half of them one user.
    pub watches_max: usize,
    /// Most pods on the node.
    pub max_pods: u32,
    /// What pods may use of the machine, and when they have to go.
    pub limits: agent::Limits,
    /// Folder of pods that this machine runs by itself.
    pub static_pod_path: Option<PathBuf>,
    /// What pods are given when the process is told to end.
    pub shutdown: agent::ShutdownGrace,
    /// Server to join; `agent` only.
    pub server: Option<String>,
    /// Server whose cluster to join as a further server.
    pub join: Option<String>,
    /// The server that joins is a witness: it keeps log and votes, and serves nobody.
    pub witness: bool,
    /// File with the token to join with.
    pub token_file: Option<PathBuf>,
    /// Where images come from and how long they stay.
    pub images: agent::ImageSettings,
}

/// What is admitted, recorded and encrypted.
#[derive(Clone, Debug, Default)]
pub struct Safety {
    /// What pods may do where no label says so, and who is exempt.
    pub pod_security: PodSecuritySettings,
    /// What is recorded of requests, and where.
    pub audit: AuditSettings,
    /// File that says which resources are kept encrypted, and with which keys.
    pub encryption: Option<PathBuf>,
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
            pod_cidr: Cidr::new(Ipv4Addr::new(10, 64, 0, 0), 10).into(),
            service_cidr: Cidr::new(Ipv4Addr::new(10, 43, 0, 0), 16).into(),
            load_balancer_pools: Vec::new(),
            node_cidr_mask_size: 20,
            node_cidr_mask_size_ipv6: 112,
            pod_routing: PodRouting::Auto,
            service_proxy: ServiceProxy::Kernel,
            node_name: host_name(),
            node_ip: None,
            advertise_address: None,
            tls_sans: Vec::new(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            compaction_interval: Duration::from_secs(300),
            node_monitor_grace_period: Duration::from_secs(40),
            eviction_pace: EvictionPace::default(),
            not_ready_toleration_seconds: 300,
            unreachable_toleration_seconds: 300,
            crash_back_off: Duration::from_secs(10),
            quota_bytes: 2 << 30,
            switches: Switches::default(),
            safety: Safety::default(),
            authentication: Authentication::default(),
            shutdown_delay: Duration::ZERO,
            authorization: AuthorizationSettings::default(),
            inflight: Inflight::default(),
            watches_max: WATCHES_MAX,
            max_pods: 4096,
            limits: agent::Limits::default(),
            static_pod_path: None,
            shutdown: agent::ShutdownGrace::default(),
            server: None,
            join: None,
            witness: false,
            token_file: None,
            images: agent::ImageSettings::default(),
        }
    }

    /// Says what contradicts itself, with the way out.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), String> {
        let (low, high) = (self.images.gc_low_percent, self.images.gc_high_percent);
        if low > high || high > 100 {
            return Err(format!(
                "--image-gc-low-threshold {low} must not exceed --image-gc-high-threshold {high}, nor that 100"
            ));
        }
        if self.pod_cidr.overlaps(&self.service_cidr) {
            return Err(format!(
                "--pod-cidr {} and --service-cidr {} overlap: choose two ranges that share no address",
                self.pod_cidr, self.service_cidr
            ));
        }
        for (flag, ranges) in [("pod-cidr", &self.pod_cidr), ("service-cidr", &self.service_cidr)] {
            if ranges.primary().is_ipv6() {
                return Err(format!(
                    "--{flag} {ranges}: IPv6 works beside IPv4 only, so name the IPv4 range first"
                ));
            }
        }
        if self.shutdown.critical > self.shutdown.total {
            return Err(
                "--shutdown-grace-period-critical-pods is part of --shutdown-grace-period and must not be longer"
                    .to_owned(),
            );
        }
        if self.limits.log_files < 2 {
            return Err(format!(
                "--container-log-max-files {} must be at least 2: the current file and one before it",
                self.limits.log_files
            ));
        }
        if self.service_cidr.secondary().is_some() && self.pod_cidr.secondary().is_none() {
            return Err(format!(
                "--service-cidr {} has IPv6, which --pod-cidr {} lacks: add a range of IPv6 to it",
                self.service_cidr, self.pod_cidr
            ));
        }
        self.check_shares()?;
        let ranges = || self.pod_cidr.iter().chain(self.service_cidr.iter());
        for pool in &self.load_balancer_pools {
            if let Some(range) = ranges().find(|range| pool.overlaps(range)) {
                return Err(format!(
                    "--load-balancer-pool {pool} and {range} overlap: choose addresses of the nodes' network \
                     that nobody else has"
                ));
            }
        }
        for range in self.service_cidr.iter() {
            if range.size() < 16 {
                return Err(format!(
                    "--service-cidr {range} is too small: give it at least 16 addresses"
                ));
            }
        }
        Ok(())
    }

    /// Whether the nodes' shares of the pod ranges fit, into those and with one another.
    fn check_shares(&self) -> Result<(), String> {
        let share = |flag: &str, range: Cidr, bits: u8, most: u8| {
            if bits < range.bits() || bits > most {
                let least = range.bits();
                return Err(format!(
                    "--{flag} {bits} must lie between the {least} of --pod-cidr {range} and {most}"
                ));
            }
            Ok(())
        };
        let (four, six) = (self.node_cidr_mask_size, self.node_cidr_mask_size_ipv6);
        share("node-cidr-mask-size", self.pod_cidr.primary(), four, 30)?;
        match self.pod_cidr.secondary() {
            // A node has as many pods of one family as of the other.
            Some(range) => share(
                "node-cidr-mask-size-ipv6",
                range,
                six,
                four.saturating_add(128 - 32).min(128),
            ),
            None => Ok(()),
        }
    }

    /// The ranges that nodes get shares of, each with the prefix length of a share.
    pub fn node_shares(&self) -> Vec<(Cidr, u8)> {
        let bits = |range: Cidr| match range.is_ipv6() {
            false => self.node_cidr_mask_size,
            true => self.node_cidr_mask_size_ipv6,
        };
        self.pod_cidr.iter().map(|range| (range, bits(range))).collect()
    }

    /// The address of the API's own Service.
    pub fn api_service_ip(&self) -> IpAddr {
        let range = self.service_cidr.primary();
        range.nth(1).unwrap_or(range.base())
    }

    /// The address of the cluster's DNS.
    pub fn dns_ip(&self) -> IpAddr {
        let range = self.service_cidr.primary();
        self.cluster_dns
            .unwrap_or_else(|| range.nth(10).unwrap_or(range.base()))
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
        assert_eq!(cidr.nth(10), Some(IpAddr::from([10, 43, 0, 10])));
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
