//! What a node's network needs to know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use api::cidr::{Addresses, Cidr, Ranges};
use sys::nft::Family;

use crate::peers::PodRouting;
use crate::services::ServiceProxy;

/// A node's network: IPv4, and IPv6 beside it where the ranges have both.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Eight hexadecimal digits made with the data folder; part of the name
    /// of everything we make in the kernel.
    pub instance_id: String,
    /// The node's data folder; ours are `netns/` and `network/` in it.
    pub data_dir: PathBuf,
    /// All pods of the cluster.
    pub pod_cidr: Ranges,
    /// This node's pods: a part of `pod_cidr`, of each family that it has. A
    /// pod's addresses lie equally far after the first of each.
    pub node_cidr: Ranges,
    /// All Services.
    pub service_cidr: Ranges,
    /// This node's name, to know which endpoints are its own.
    pub node_name: String,
    /// A non-loopback address that the node keeps; the source of what host
    /// processes send to pods.
    pub node_ip: Ipv4Addr,
    /// The same of IPv6, if the node has one.
    pub node_ip6: Option<Ipv6Addr>,
    /// How packets for pods of other nodes travel.
    pub routing: PodRouting,
    /// Who balances Services.
    pub proxy: ServiceProxy,
    /// Where pods ask for names, in `service_cidr`.
    pub dns_ip: Ipv4Addr,
    /// `cluster.local`.
    pub domain: String,
    /// Where the upstream name servers stand: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl NetworkConfig {
    /// Checks what would otherwise surface as puzzling kernel errors.
    pub fn check(&self) -> Result<(), NetworkError> {
        let fail = |text: String| Err(NetworkError::Config(text));
        let id = &self.instance_id;
        if id.len() != 8 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return fail(format!("instance id {id:?} is not eight hexadecimal digits"));
        }
        for range in self.node_cidr.iter() {
            let all = self.pod_cidr.family(range.is_ipv6());
            if !all.is_some_and(|all| all.encloses(&range)) {
                return fail(format!("node range {range} is not within {}", self.pod_cidr));
            }
        }
        let (v4, v6) = (self.node_cidr.primary(), self.node_cidr.secondary());
        if v4.is_ipv6() {
            return fail(format!(
                "node range {}: IPv6 works beside IPv4 only; name the IPv4 range first",
                self.node_cidr
            ));
        }
        if !(12..=28).contains(&v4.bits()) {
            return fail(format!("node range {v4} is not between /12 and /28"));
        }
        if v6.is_some_and(|v6| v6.size() < v4.size()) {
            return fail(format!(
                "node range {} has fewer addresses of IPv6 than of IPv4",
                self.node_cidr
            ));
        }
        if self.pod_cidr.overlaps(&self.service_cidr) {
            return fail(format!(
                "pod range {} and service range {} overlap",
                self.pod_cidr, self.service_cidr
            ));
        }
        if !self.service_cidr.contains(self.dns_ip) {
            return fail(format!(
                "DNS address {} is not within {}",
                self.dns_ip, self.service_cidr
            ));
        }
        if self.node_ip.is_loopback() || self.node_ip.is_unspecified() {
            return fail(format!("pods cannot reach the node at {}", self.node_ip));
        }
        Ok(())
    }

    /// The first IPv4 address of the node's range: ours, on the link to the Wasm
    /// pods, so that a machine without any network has a `node_ip` to use.
    pub fn gateway(&self) -> Ipv4Addr {
        match gateway(&self.node_cidr.primary()) {
            IpAddr::V4(address) => address,
            // Refused by `check`.
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The node's own address of a family, if it has one.
    pub fn node_address(&self, ipv6: bool) -> Option<IpAddr> {
        match ipv6 {
            false => Some(self.node_ip.into()),
            true => self.node_ip6.map(IpAddr::V6),
        }
    }

    /// Whether pods have an address of IPv6 too.
    pub fn has_ipv6(&self) -> bool {
        self.node_cidr.secondary().is_some()
    }

    /// All addresses of the pod that has `ip`.
    pub fn pod_addresses(&self, ip: Ipv4Addr) -> Addresses {
        let offset = self.node_cidr.primary().offset(ip);
        let other = self.node_cidr.secondary().zip(offset);
        Addresses::from(IpAddr::V4(ip)).and(other.and_then(|(range, offset)| range.nth(offset)))
    }

    /// All of the node's own addresses: those that others reach it at, and those
    /// it has towards its pods.
    pub fn node_addresses(&self) -> Vec<IpAddr> {
        let known = [false, true]
            .into_iter()
            .filter_map(|ipv6| self.node_address(ipv6));
        known
            .chain(self.node_cidr.iter().map(|range| gateway(&range)))
            .collect()
    }

    /// Where names are asked for: the address that pods are told, and its like
    /// in the service range of the other family.
    pub fn dns_ips(&self) -> Vec<IpAddr> {
        let offset = self
            .service_cidr
            .family(false)
            .and_then(|range| range.offset(self.dns_ip));
        let other = self.service_cidr.family(true).zip(offset);
        let other = other.and_then(|(range, offset)| range.nth(offset));
        [Some(IpAddr::V4(self.dns_ip)), other]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The families that Services may have, the primary first.
    pub fn service_families(&self) -> Vec<Family> {
        self.service_cidr
            .iter()
            .map(|range| Family::of(range.base()))
            .collect()
    }

    /// `<data>/netns`, where the namespaces are held.
    pub fn netns_dir(&self) -> PathBuf {
        netns_dir(&self.data_dir)
    }

    /// `<data>/network`, our state.
    pub fn state_dir(&self) -> PathBuf {
        state_dir(&self.data_dir)
    }
}

/// The address that the node keeps for itself in its pod range.
pub fn gateway(node_cidr: &Cidr) -> IpAddr {
    node_cidr.nth(1).unwrap_or(node_cidr.base())
}

pub(crate) fn netns_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("netns")
}

pub(crate) fn state_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("network")
}

/// What goes wrong in here.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration contradicts itself.
    #[error("network configuration: {0}")]
    Config(String),
    /// The kernel or the file system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// nftables refused.
    #[error("nftables: {0}")]
    Nft(#[from] sys::nft::NftError),
    /// All of the node's addresses are taken.
    #[error("no free address left in {0}")]
    Exhausted(Cidr),
    /// The network has been shut down.
    #[error("the pod network is closed")]
    Closed,
}
