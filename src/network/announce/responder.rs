//! Answers on the wire for the addresses that are this node's to announce.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base::{OnError, Tasks};
use sys::link::{Mac, Routing};
use sys::packet::{self, Frames};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::frames::{Question, announcements};
use crate::config::NetworkConfig;

/// When an address that came here is announced, from that moment on: some
/// caches ignore a change that comes too soon after the last one.
const AGAIN: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(1100),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Longer than any question.
const FRAME_BYTES_MAX: usize = 2048;

type Mine = watch::Receiver<BTreeSet<IpAddr>>;

/// Starts answering, on the device with the node's address, for what `mine` says.
pub(super) fn start(config: &NetworkConfig, mine: Mine, tasks: &Tasks) -> io::Result<()> {
    let Some((link, me)) = device(config)? else {
        tracing::warn!(address = %config.node_ip, "no Ethernet device has the node's address: load balancers' \
            addresses are not announced");
        return Ok(());
    };
    for frames in [Frames::Arp, Frames::NeighbourSolicitations] {
        // Without IPv6 there is nothing to hear, and the kernel may refuse.
        let socket = match packet::open(link, frames) {
            Err(error) if frames == Frames::NeighbourSolicitations => {
                tracing::debug!(%error, "no neighbour discovery");
                continue;
            }
            other => other?,
        };
        // Receiving and sending are the same calls for any connected socket.
        let socket = UdpSocket::from_std(socket.into())?;
        let voice = Voice {
            socket,
            me,
            is_ipv6: frames == Frames::NeighbourSolicitations,
            mine: mine.clone(),
        };
        tasks.spawn("load balancer announcements", OnError::Log, voice.run());
    }
    Ok(())
}

/// Index and hardware address of the device that has the node's address.
fn device(config: &NetworkConfig) -> io::Result<Option<(u32, Mac)>> {
    let mut routing = Routing::open()?;
    let node = IpAddr::from(config.node_ip);
    let addresses = routing.addresses()?;
    let Some(found) = addresses.iter().find(|a| a.address == node) else {
        return Ok(None);
    };
    let links = routing.links()?;
    let link = links.iter().find(|link| link.index == found.link);
    Ok(link.and_then(|link| Some((link.index, link.mac.filter(|mac| *mac != Mac::default())?))))
}

/// What speaks for one family.
struct Voice {
    socket: UdpSocket,
    me: Mac,
    is_ipv6: bool,
    mine: Mine,
}

impl Voice {
    async fn run(mut self) -> io::Result<()> {
        let mut known = BTreeSet::new();
        // Addresses that came lately, and how often they were announced.
        let mut fresh: Vec<(IpAddr, tokio::time::Instant, usize)> = Vec::new();
        loop {
            let next = fresh.iter().map(|(_, begun, count)| *begun + AGAIN[*count]).min();
            tokio::select! {
                changed = self.mine.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let mine: BTreeSet<IpAddr> = self.ours();
                    fresh.retain(|(address, ..)| mine.contains(address));
                    let now = tokio::time::Instant::now();
                    fresh.extend(mine.difference(&known).map(|address| (*address, now, 0)));
                    for address in mine.symmetric_difference(&known) {
                        tracing::info!(%address, here = mine.contains(address), "load balancer's address");
                    }
                    known = mine;
                }
                ready = self.socket.readable() => {
                    ready?;
                    self.answer(&known);
                }
                () = until(next) => self.announce(&mut fresh),
            }
        }
    }

    fn ours(&mut self) -> BTreeSet<IpAddr> {
        let is_ipv6 = self.is_ipv6;
        self.mine
            .borrow_and_update()
            .iter()
            .filter(|ip| ip.is_ipv6() == is_ipv6)
            .copied()
            .collect()
    }

    /// Everything that has arrived.
    fn answer(&self, known: &BTreeSet<IpAddr>) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        // An error ends it: nothing more is there, or the device went down.
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            let question = buffer.get(..length).and_then(Question::parse);
            if let Some(question) = question.filter(|question| known.contains(&question.wanted)) {
                self.say(&question.answer(self.me));
            }
        }
    }

    fn announce(&self, fresh: &mut Vec<(IpAddr, tokio::time::Instant, usize)>) {
        let now = tokio::time::Instant::now();
        for (address, begun, count) in fresh.iter_mut() {
            if *begun + AGAIN[*count] <= now {
                announcements(*address, self.me)
                    .iter()
                    .for_each(|frame| self.say(frame));
                *count += 1;
            }
        }
        fresh.retain(|(_, _, count)| *count < AGAIN.len());
    }

    fn say(&self, frame: &[u8]) {
        if let Err(error) = self.socket.try_send(frame) {
            tracing::debug!(%error, "announcement not sent");
        }
    }
}

async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
