//! What a node's network needs to know.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::cidr::Cidr;

/// A node's network. IPv4 only for now.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Eight hexadecimal digits made with the data folder; part of the name
    /// of everything we make in the kernel.
    pub instance_id: String,
    /// The node's data folder; ours are `netns/` and `network/` in it.
    pub data_dir: PathBuf,
    /// All pods of the cluster.
    pub pod_cidr: Cidr,
    /// This node's pods: a part of `pod_cidr`.
    pub node_cidr: Cidr,
    /// All Services.
    pub service_cidr: Cidr,
    /// This node's name, to know which endpoints are its own.
    pub node_name: String,
    /// A non-loopback address that the node keeps; the source of what host
    /// processes send to pods.
    pub node_ip: Ipv4Addr,
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
        if !self.pod_cidr.contains(self.node_cidr.base()) || self.node_cidr.bits() < self.pod_cidr.bits() {
            return fail(format!(
                "node range {} is not within {}",
                self.node_cidr, self.pod_cidr
            ));
        }
        if !(12..=28).contains(&self.node_cidr.bits()) {
            return fail(format!(
                "node range {} is not between /12 and /28",
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

    /// The first address of the node's range: ours, on the link to the Wasm
    /// pods, so that a machine without any network has a `node_ip` to use.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(&self.node_cidr)
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
pub fn gateway(node_cidr: &Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(node_cidr.base()).saturating_add(1))
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
