//! Where the node listens, and the addresses it deals in.

use std::net::IpAddr;

use super::set::set;
use crate::config::{AddressPool, Config, Listen, PodRouting, Ranges, ServiceProxy};

/// Listening, ranges, routing, DNS.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct Network {
    /// Port, or ADDRESS:PORT, of the API [default: 6443 on the node's address and 127.0.0.1]
    #[arg(long, value_name = "[ADDR:]PORT")]
    pub listen: Option<Listen>,

    /// Further names and addresses by which clients reach this server, for its certificate; several with commas between
    /// them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,

    /// Address at which other machines reach this server [default: the node's]
    #[arg(long, value_name = "ADDR")]
    pub advertise_address: Option<IpAddr>,

    /// Range that pod addresses come from, and after a comma one of IPv6 [default: 10.64.0.0/10]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Option<Ranges>,

    /// Prefix length of each node's share of the pod range [default: 20]
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size: Option<u8>,

    /// Prefix length of each node's share of the pod range of IPv6 [default: 112]
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: Option<u8>,

    /// How pods of other nodes are reached: auto, routes or vxlan [default: auto, routes where there is
    /// a common network and vxlan elsewhere]
    #[arg(long, value_name = "HOW")]
    pub pod_routing: Option<PodRouting>,

    /// Range that Service addresses come from, and after a comma one of IPv6 [default: 10.43.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub service_cidr: Option<Ranges>,

    /// Who balances Services on this node: kernel or userspace [default: kernel]
    #[arg(long, value_name = "WHO")]
    pub service_proxy: Option<ServiceProxy>,

    /// Addresses for Services of type LoadBalancer, such as 192.0.2.100-192.0.2.120 or 192.0.2.128/28;
    /// several with commas between them
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pub load_balancer_pool: Vec<AddressPool>,

    /// Address of the cluster's DNS [default: tenth of the service range]
    #[arg(long, value_name = "ADDR")]
    pub cluster_dns: Option<IpAddr>,

    /// Domain of the cluster's names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
}

impl Network {
    pub(super) fn apply(self, config: &mut Config) {
        set(&mut config.listen, self.listen);
        config.tls_sans = self.tls_san;
        config.advertise_address = self.advertise_address;
        set(&mut config.pod_cidr, self.pod_cidr);
        set(&mut config.node_cidr_mask_size, self.node_cidr_mask_size);
        set(
            &mut config.node_cidr_mask_size_ipv6,
            self.node_cidr_mask_size_ipv6,
        );
        set(&mut config.pod_routing, self.pod_routing);
        set(&mut config.service_cidr, self.service_cidr);
        set(&mut config.service_proxy, self.service_proxy);
        config.load_balancer_pools = self.load_balancer_pool;
        config.cluster_dns = self.cluster_dns;
        set(&mut config.cluster_domain, self.cluster_domain);
    }
}
