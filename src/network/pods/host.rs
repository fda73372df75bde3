//! The node's side of pod networking. Everything here blocks for microseconds
//! to milliseconds and runs on one thread, so there are no locks.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sys::link::Routing;
use sys::netns;
use sys::nft::{Family, Nft};

use super::journal::Journal;
use super::link::{PodLink, PodNetKind};
use super::shared::{connect_shared, container_settings, forward, inside_settings, of_family};
use super::{rules, wire};
use crate::config::{NetworkConfig, NetworkError, gateway};
use crate::ipam::{Lease, Pool};
use crate::names;
use crate::peers::{self, Links, Peer};
use api::cidr::Addresses;

/// Ethernet's, where the node's own device does not say otherwise.
const MTU_DEFAULT: u32 = 1500;

/// The host's network as this instance has arranged it.
#[derive(Debug)]
pub(super) struct Host {
    config: NetworkConfig,
    routing: Routing,
    nft: Nft,
    /// Routing tables inside the shared namespace.
    shared: Routing,
    /// Keeps the shared namespace even if somebody removes its file.
    _shared_netns: OwnedFd,
    /// Largest packet that pods' links take, in bytes.
    mtu: u32,
    peers: Links,
    /// From where the host talks to pods, per family.
    sources: Vec<IpAddr>,
    pool: Pool,
    journal: Journal,
    /// Pods whose own namespace this process has made or checked.
    wired: BTreeSet<String>,
}

impl Host {
    /// Arranges it, taking over what a predecessor left.
    pub(super) fn open(config: NetworkConfig) -> Result<Host, NetworkError> {
        config.check()?;
        std::fs::create_dir_all(config.state_dir())?;
        let (journal, pool) =
            Journal::open(&config.state_dir().join("addresses"), config.node_cidr.primary())?;
        forward(config.has_ipv6())?;
        let mut routing = Routing::open()?;
        let mut peers = Links::new(peers::read(&config.state_dir()));
        let mtu = underlay_mtu(&mut routing, config.node_ip)?;
        let mtu = peers.settle(&config, &mut routing, mtu)?;
        let shared_netns = open_or_create(&names::shared_netns(&config.instance_id, &config.data_dir))?;
        let mut shared = wire::routing_in(shared_netns.as_fd())?;
        let sources = connect_shared(&config, &mut routing, &mut shared, &shared_netns, mtu)?;
        let mut host = Host {
            nft: Nft::open()?,
            config,
            routing,
            shared,
            _shared_netns: shared_netns,
            mtu,
            peers,
            sources,
            pool,
            journal,
            wired: BTreeSet::new(),
        };
        host.write_rules()?;
        host.forget_strangers()?;
        host.resize(mtu)?;
        Ok(host)
    }

    /// See [`super::PodNetwork::attach`].
    pub(super) fn attach(
        &mut self,
        pod: &str,
        kind: PodNetKind,
        wanted: Option<Ipv4Addr>,
    ) -> Result<PodLink, NetworkError> {
        let path = self.netns_path(pod)?;
        let known = self.pool.get(pod);
        let lease = self.pool.take(pod, kind, wanted)?;
        let wired = match kind {
            PodNetKind::Own => self.wire(pod, lease, &path),
            PodNetKind::Shared => self.unwire_if(known, pod, &path),
        };
        let recorded = wired.and_then(|()| match known == Some(lease) {
            true => Ok(()),
            false => Ok(self.journal.take(pod, lease, &self.pool)?),
        });
        if let Err(error) = recorded {
            if known.is_none() {
                let _ = self.unwire(pod, lease.ip, &path);
                self.pool.release(pod);
            }
            return Err(error);
        }
        Ok(self.link(lease, path))
    }

    /// See [`super::PodNetwork::prepare`].
    pub(super) fn prepare(&self, pod: &str, first: u32) -> Result<(), NetworkError> {
        let path = self.netns_path(pod)?;
        match netns::exists(&path) {
            true => Ok(()),
            false => Ok(netns::create_for(&path, first)?),
        }
    }

    /// See [`super::PodNetwork::detach`].
    pub(super) fn detach(&mut self, pod: &str) -> Result<(), NetworkError> {
        let Some(lease) = self.pool.get(pod) else {
            return Ok(());
        };
        if lease.kind == PodNetKind::Own {
            let path = self.netns_path(pod)?;
            self.unwire(pod, lease.ip, &path)?;
        }
        self.pool.release(pod);
        Ok(self.journal.free(pod, &self.pool)?)
    }

    /// Writes rules and routes anew if somebody has flushed them: a firewall that
    /// was reloaded, say, or a device that was down.
    pub(super) fn check(&mut self) -> Result<(), NetworkError> {
        let table = names::pods_table(&self.config.instance_id);
        for family in self.sources.iter().map(|source| Family::of(*source)) {
            if !self.nft.tables(family)?.contains(&table) {
                tracing::warn!("the kernel's pod rules have vanished; writing them anew");
                self.write_rules()?;
                break;
            }
        }
        self.lead()
    }

    fn write_rules(&mut self) -> Result<(), NetworkError> {
        let own = own_addresses(&self.pool);
        let own: Vec<IpAddr> = own
            .iter()
            .flat_map(|ip| self.config.pod_addresses(*ip).iter())
            .collect();
        for table in rules::tables(&self.config, &self.sources, &own) {
            self.nft.commit(&table)?;
        }
        Ok(())
    }

    /// See [`super::PodNetwork::connect`].
    pub(super) fn connect(&mut self, peers: Vec<Peer>) -> Result<(), NetworkError> {
        if self.peers.set(peers) {
            peers::write(&self.config.state_dir(), self.peers.all())?;
        }
        self.lead()
    }

    /// Makes the ways to other nodes' pods, as far as they are not there.
    fn lead(&mut self) -> Result<(), NetworkError> {
        let underlay = underlay_mtu(&mut self.routing, self.config.node_ip)?;
        let mtu = self.peers.settle(&self.config, &mut self.routing, underlay)?;
        if mtu != self.mtu {
            self.resize(mtu)?;
        }
        Ok(())
    }

    /// Gives all links another size.
    fn resize(&mut self, mtu: u32) -> Result<(), NetworkError> {
        self.mtu = mtu;
        let shared = names::shared_link(&self.config.instance_id);
        wire::set_mtu(&mut self.routing, &mut self.shared, &shared, mtu)?;
        let own = self
            .pool
            .pods()
            .filter(|(_, lease)| lease.kind == PodNetKind::Own);
        let own: Vec<(String, Ipv4Addr)> = own.map(|(pod, lease)| (pod.to_string(), lease.ip)).collect();
        for (pod, ip) in own {
            // One that is just being made gets the size with its link.
            if let Ok(namespace) = netns::open(&self.netns_path(&pod)?) {
                let mut inside = wire::routing_in(namespace.as_fd())?;
                let name = self.pod_link(ip);
                wire::set_mtu(&mut self.routing, &mut inside, &name, mtu)?;
            }
        }
        Ok(())
    }

    /// The uids of all pods with an address.
    pub(super) fn attached(&self) -> Vec<String> {
        self.pool.pods().map(|(pod, _)| pod.to_string()).collect()
    }

    fn link(&self, lease: Lease, path: PathBuf) -> PodLink {
        let own = lease.kind == PodNetKind::Own;
        let six = self.config.has_ipv6();
        let (four, six) = match own {
            true => (Ipv4Addr::LOCALHOST, six.then(|| Ipv6Addr::LOCALHOST.into())),
            false => (
                self.pool.loopback(lease.ip),
                six.then(|| self.pool.loopback_v6(lease.ip)),
            ),
        };
        PodLink {
            ips: self.config.pod_addresses(lease.ip),
            netns: own.then_some(path),
            loopback: Addresses::from(IpAddr::V4(four)).and(six),
        }
    }

    /// Makes a pod's own namespace and link, or makes sure of them.
    fn wire(&mut self, pod: &str, lease: Lease, path: &std::path::Path) -> Result<(), NetworkError> {
        if self.wired.contains(pod) {
            return Ok(());
        }
        let namespace = open_or_create(path)?;
        let mut inside = wire::routing_in(namespace.as_fd())?;
        let name = self.pod_link(lease.ip);
        let ipv6 = self.config.has_ipv6();
        netns::with(&namespace, || inside_settings(ipv6))?;
        let end = wire::connect(
            &mut self.routing,
            &mut inside,
            &name,
            namespace.as_fd(),
            self.mtu,
            ipv6,
        )?;
        let addresses = self.config.pod_addresses(lease.ip);
        wire::configure_inside(&mut inside, Some(addresses), ipv6)?;
        wire::settle(&mut self.routing, &name)?;
        netns::with(&namespace, container_settings)?;
        for address in addresses.iter() {
            wire::except(&mut self.shared, address, true)?;
        }
        for batch in rules::add_pod(&self.config, addresses) {
            self.nft.commit(&batch)?;
        }
        // Last: from here on the host finds the pod.
        for address in addresses.iter() {
            let source = of_family(&self.sources, address.is_ipv6())?;
            self.routing
                .replace_route(&wire::into(end, wire::alone(address), source))?;
        }
        self.wired.insert(pod.to_string());
        Ok(())
    }

    /// Removes a pod's own namespace and link, as far as they exist.
    fn unwire(&mut self, pod: &str, ip: Ipv4Addr, path: &std::path::Path) -> Result<(), NetworkError> {
        self.wired.remove(pod);
        self.routing.delete_link(&self.pod_link(ip))?;
        let addresses = self.config.pod_addresses(ip);
        for address in addresses.iter() {
            wire::except(&mut self.shared, address, false)?;
        }
        for batch in rules::remove_pod(&self.config, addresses) {
            // Absent if the pod was never quite there.
            let _ = self.nft.commit(&batch);
        }
        Ok(netns::delete(path)?)
    }

    fn unwire_if(
        &mut self,
        known: Option<Lease>,
        pod: &str,
        path: &std::path::Path,
    ) -> Result<(), NetworkError> {
        match known {
            Some(lease) if lease.kind == PodNetKind::Own => self.unwire(pod, lease.ip, path),
            _ => Ok(()),
        }
    }

    fn netns_path(&self, pod: &str) -> Result<PathBuf, NetworkError> {
        names::pod_netns(&self.config.instance_id, &self.config.data_dir, pod)
            .ok_or_else(|| NetworkError::Config(format!("pod uid {pod:?} cannot name a file")))
    }

    fn pod_link(&self, ip: Ipv4Addr) -> String {
        names::pod_link(&self.config.instance_id, self.pool.offset(ip))
    }

    /// Removes links, namespaces and exceptions that belong to no pod that we
    /// know: their records were lost with the power.
    fn forget_strangers(&mut self) -> Result<(), NetworkError> {
        let id = self.config.instance_id.clone();
        let own = own_addresses(&self.pool);
        let mut links: BTreeSet<String> = own.iter().map(|ip| self.pod_link(*ip)).collect();
        links.extend([names::shared_link(&id), names::overlay_link(&id)]);
        for link in self.routing.links()? {
            if names::is_link_of(&id, &link.name) && !links.contains(&link.name) {
                self.routing.delete_link(&link.name)?;
            }
        }
        let own_pods = self
            .pool
            .pods()
            .filter(|(_, lease)| lease.kind == PodNetKind::Own);
        let mut files: BTreeSet<PathBuf> = own_pods
            .filter_map(|(pod, _)| names::pod_netns(&id, &self.config.data_dir, pod))
            .collect();
        files.insert(names::shared_netns(&id, &self.config.data_dir));
        for entry in std::fs::read_dir(self.config.netns_dir())?.flatten() {
            if !files.contains(&entry.path()) {
                netns::delete(&entry.path())?;
            }
        }
        let mut elsewhere: BTreeSet<IpAddr> = self.config.node_cidr.iter().map(|r| gateway(&r)).collect();
        elsewhere.extend(own.iter().flat_map(|ip| self.config.pod_addresses(*ip).iter()));
        for ip in wire::exceptions(&mut self.shared)? {
            if !elsewhere.contains(&ip) {
                wire::except(&mut self.shared, ip, false)?;
            }
        }
        for ip in elsewhere {
            wire::except(&mut self.shared, ip, true)?;
        }
        Ok(())
    }
}

fn open_or_create(path: &std::path::Path) -> io::Result<OwnedFd> {
    if netns::exists(path) {
        netns::open(path)
    } else {
        netns::create(path)
    }
}

fn own_addresses(pool: &Pool) -> Vec<Ipv4Addr> {
    let own = pool.pods().filter(|(_, lease)| lease.kind == PodNetKind::Own);
    own.map(|(_, lease)| lease.ip).collect()
}

/// What leaves pods leaves by the node's device in the end.
fn underlay_mtu(routing: &mut Routing, node_ip: Ipv4Addr) -> io::Result<u32> {
    let addresses = routing.addresses()?;
    let Some(address) = addresses.iter().find(|a| a.address == node_ip) else {
        return Ok(MTU_DEFAULT);
    };
    let links = routing.links()?;
    let link = links
        .iter()
        .find(|l| l.index == address.link && l.index != netns::LOOPBACK);
    Ok(link.map(|l| l.mtu).filter(|mtu| *mtu > 0).unwrap_or(MTU_DEFAULT))
}
