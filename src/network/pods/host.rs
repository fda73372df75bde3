//! The node's side of pod networking. Everything here blocks for microseconds
//! to milliseconds and runs on one thread, so there are no locks.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sys::link::{Address, Route, RouteKind, Routing, Scope, Table};
use sys::netns;
use sys::nft::{Family, Nft};

use super::journal::Journal;
use super::{PodLink, PodNetKind, rules, wire};
use crate::config::{NetworkConfig, NetworkError};
use crate::ipam::{Lease, Pool};
use crate::names;

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
    mtu: u32,
    /// From where the host talks to pods.
    source: Ipv4Addr,
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
        let (journal, pool) = Journal::open(&config.state_dir().join("addresses"), config.node_cidr)?;
        sys::sysctl::set("net.ipv4.ip_forward", "1")?;
        let mut routing = Routing::open()?;
        let mtu = underlay_mtu(&mut routing, config.node_ip)?;
        let shared_netns = open_or_create(&names::shared_netns(&config.instance_id, &config.data_dir))?;
        let mut shared = wire::routing_in(shared_netns.as_fd())?;
        let source = connect_shared(&config, &mut routing, &mut shared, &shared_netns, mtu)?;
        let own = own_addresses(&pool);
        Nft::open()?.commit(&rules::table(&config, source, &own))?;
        let mut host = Host {
            nft: Nft::open()?,
            config,
            routing,
            shared,
            _shared_netns: shared_netns,
            mtu,
            source,
            pool,
            journal,
            wired: BTreeSet::new(),
        };
        host.forget_strangers()?;
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

    /// Writes the rules anew if somebody has flushed them: a firewall that was
    /// reloaded, say.
    pub(super) fn check(&mut self) -> Result<(), NetworkError> {
        if self
            .nft
            .tables(Family::Ip)?
            .contains(&names::pods_table(&self.config.instance_id))
        {
            return Ok(());
        }
        tracing::warn!("the kernel's pod rules have vanished; writing them anew");
        let own = own_addresses(&self.pool);
        Ok(self.nft.commit(&rules::table(&self.config, self.source, &own))?)
    }

    /// The uids of all pods with an address.
    pub(super) fn attached(&self) -> Vec<String> {
        self.pool.pods().map(|(pod, _)| pod.to_string()).collect()
    }

    fn link(&self, lease: Lease, path: PathBuf) -> PodLink {
        let own = lease.kind == PodNetKind::Own;
        PodLink {
            ip: lease.ip.into(),
            netns: own.then_some(path),
            loopback: if own {
                Ipv4Addr::LOCALHOST
            } else {
                self.pool.loopback(lease.ip)
            },
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
        let end = wire::connect(&mut self.routing, &mut inside, &name, namespace.as_fd(), self.mtu)?;
        wire::configure_inside(&mut inside, Some(lease.ip))?;
        wire::settle(&mut self.routing, &name)?;
        netns::with(&namespace, container_settings)?;
        wire::except(&mut self.shared, lease.ip, true)?;
        self.nft.commit(&rules::add_pod(&self.config, lease.ip))?;
        // Last: from here on the host finds the pod.
        self.routing
            .replace_route(&wire::into(end, lease.ip, 32, self.source))?;
        self.wired.insert(pod.to_string());
        Ok(())
    }

    /// Removes a pod's own namespace and link, as far as they exist.
    fn unwire(&mut self, pod: &str, ip: Ipv4Addr, path: &std::path::Path) -> Result<(), NetworkError> {
        self.wired.remove(pod);
        self.routing.delete_link(&self.pod_link(ip))?;
        wire::except(&mut self.shared, ip, false)?;
        // Absent if the pod was never quite there.
        let _ = self.nft.commit(&rules::remove_pod(&self.config, ip));
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
        let offset = self.config.node_cidr.offset(ip).unwrap_or(0);
        names::pod_link(&self.config.instance_id, offset)
    }

    /// Removes links, namespaces and exceptions that belong to no pod that we
    /// know: their records were lost with the power.
    fn forget_strangers(&mut self) -> Result<(), NetworkError> {
        let id = self.config.instance_id.clone();
        let own = own_addresses(&self.pool);
        let mut links: BTreeSet<String> = own.iter().map(|ip| self.pod_link(*ip)).collect();
        links.insert(names::shared_link(&id));
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
        let gateway = self.config.gateway();
        for ip in wire::exceptions(&mut self.shared)? {
            if ip != gateway && !own.contains(&ip) {
                wire::except(&mut self.shared, ip, false)?;
            }
        }
        for ip in own {
            wire::except(&mut self.shared, ip, true)?;
        }
        Ok(())
    }
}

/// Connects the shared namespace and makes the node's addresses. Returns from
/// where the host talks to pods.
fn connect_shared(
    config: &NetworkConfig,
    routing: &mut Routing,
    shared: &mut Routing,
    namespace: &OwnedFd,
    mtu: u32,
) -> io::Result<Ipv4Addr> {
    let name = names::shared_link(&config.instance_id);
    let end = wire::connect(routing, shared, &name, namespace.as_fd(), mtu)?;
    wire::configure_inside(shared, None)?;
    wire::settle(routing, &name)?;
    // Every pod address can be bound here, without having any of them (AnyIP).
    shared.replace_route(&Route {
        destination: config.node_cidr.base(),
        prefix: config.node_cidr.bits(),
        link: netns::LOOPBACK,
        gateway: None,
        source: None,
        kind: RouteKind::Local,
        table: Table::Local,
    })?;
    wire::except(shared, config.gateway(), true)?;
    let address = |address| Address {
        link: end.link,
        address,
        prefix: 32,
    };
    routing.add_address(&address(config.gateway()), Scope::Universe)?;
    routing.add_address(&address(config.dns_ip), Scope::Host)?;
    let known = routing.addresses()?.iter().any(|a| a.address == config.node_ip);
    let source = if known { config.node_ip } else { config.gateway() };
    // The services' route is never followed to its end: packets are translated
    // or refused. But without one, sockets would hear "network unreachable".
    for range in [config.node_cidr, config.service_cidr] {
        routing.replace_route(&wire::into(end, range.base(), range.bits(), source))?;
    }
    Ok(source)
}

/// What containers expect of their namespace: any user may listen on any port
/// and send pings.
fn container_settings() {
    wire::soft_set("net.ipv4.ip_unprivileged_port_start", "0");
    wire::soft_set("net.ipv4.ping_group_range", "0 2147483647");
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
