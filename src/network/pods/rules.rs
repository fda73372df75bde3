//! The nftables table that pods need whatever Services there are: who gets
//! another source address on the way, and what is refused at once.

use std::net::Ipv4Addr;

use sys::nft::{Batch, Chain, ChainKind, Data, Element, Expr, Family, HookPoint, Reg, SetKind, SetSpec};

use crate::cidr::Cidr;
use crate::config::NetworkConfig;
use crate::names;

/// Pods in namespaces of their own, as (address, address): the connection of
/// a pod to itself by way of a Service.
const HAIRPIN: &str = "hairpin";
const ADDRESS_PAIR: (u32, u32) = (7 << 6 | 7, 8);
const A: Reg = Reg::new(0);
const B: Reg = Reg::new(1);
/// `IPS_DST_NAT` of a connection's status.
const TRANSLATED: u32 = 1 << 5;
const TCP: u8 = 6;
/// Priorities at which the kernel's own address translation of sources and
/// ordinary filters stand.
const SOURCE_NAT: i32 = 100;
const FILTER: i32 = 0;

/// The whole table, replacing what is there.
pub(super) fn table(config: &NetworkConfig, source: Ipv4Addr, own_pods: &[Ipv4Addr]) -> Batch {
    let table = names::pods_table(&config.instance_id);
    let mut batch = Batch::new(Family::Ip);
    batch.clear_table(&table).add_table(&table);
    batch.add_set(
        &table,
        &SetSpec {
            name: HAIRPIN,
            key: ADDRESS_PAIR,
            data: Data::None,
            kind: SetKind::Plain,
        },
    );
    let hooks = [
        ("postrouting", ChainKind::Nat, HookPoint::Postrouting, SOURCE_NAT),
        ("forward", ChainKind::Filter, HookPoint::Forward, FILTER),
        ("output", ChainKind::Filter, HookPoint::Output, FILTER),
    ];
    for (name, kind, point, priority) in hooks {
        batch.add_chain(
            &table,
            &Chain {
                name,
                hook: Some((kind, point, priority)),
            },
        );
    }
    for rule in postrouting(config, source) {
        batch.add_rule(&table, "postrouting", &rule);
    }
    for chain in ["forward", "output"] {
        for rule in refusals(config) {
            batch.add_rule(&table, chain, &rule);
        }
    }
    let elements: Vec<Element> = own_pods.iter().map(|ip| pair(*ip)).collect();
    batch.add_elements(&table, HAIRPIN, &elements);
    batch
}

/// A pod in a namespace of its own came.
pub(super) fn add_pod(config: &NetworkConfig, ip: Ipv4Addr) -> Batch {
    let mut batch = Batch::new(Family::Ip);
    batch.add_elements(&names::pods_table(&config.instance_id), HAIRPIN, &[pair(ip)]);
    batch
}

/// It went.
pub(super) fn remove_pod(config: &NetworkConfig, ip: Ipv4Addr) -> Batch {
    let mut batch = Batch::new(Family::Ip);
    batch.delete_elements(&names::pods_table(&config.instance_id), HAIRPIN, &[pair(ip)]);
    batch
}

fn postrouting(config: &NetworkConfig, source: Ipv4Addr) -> Vec<Vec<Expr>> {
    let shared = device(&names::shared_link(&config.instance_id));
    let as_node = |mut rule: Vec<Expr>| {
        rule.extend([
            Expr::constant(A, &source.octets()),
            Expr::source_nat(Family::Ip, A),
        ]);
        rule
    };
    let mut foreign = within(A, Expr::source, config.pod_cidr, false);
    foreign.extend(within(A, Expr::destination, config.node_cidr, false));
    let mut leaving = within(A, Expr::source, config.node_cidr, true);
    leaving.extend(within(A, Expr::destination, config.pod_cidr, false));
    leaving.push(Expr::masquerade());
    let mut translated = vec![
        Expr::connection_status(A),
        Expr::mask(A, &TRANSLATED.to_ne_bytes()),
        Expr::not_equal(A, &0u32.to_ne_bytes()),
        Expr::output_name(A),
        Expr::not_equal(A, &device("lo")),
    ];
    translated.extend(foreign);
    translated.push(Expr::masquerade());
    vec![
        // A pod that met itself behind a Service would drop the packet as forged.
        as_node(vec![
            Expr::source(Family::Ip, A),
            Expr::destination(Family::Ip, B),
            Expr::member(HAIRPIN, A),
        ]),
        // The same for two pods of the shared namespace, where the reply would
        // stay inside and never be translated back.
        as_node(vec![
            Expr::input_name(A),
            Expr::equal(A, &shared),
            Expr::output_name(A),
            Expr::equal(A, &shared),
        ]),
        leaving,
        // From outside by a NodePort to a pod of another node: the reply must come back here.
        translated,
    ]
}

/// What is still addressed to a Service after translation has no endpoint, or
/// is none. Without this it would circle between host and shared namespace.
fn refusals(config: &NetworkConfig) -> [Vec<Expr>; 2] {
    let mut to_services = within(A, Expr::destination, config.service_cidr, true);
    to_services.extend([
        Expr::destination(Family::Ip, A),
        Expr::not_equal(A, &config.dns_ip.octets()),
    ]);
    let mut tcp = to_services.clone();
    tcp.extend([Expr::protocol(A), Expr::equal(A, &[TCP]), Expr::reject_tcp()]);
    let mut rest = to_services;
    rest.push(Expr::reject(Family::Ip));
    [tcp, rest]
}

/// Goes on if the address that `load` loads is in `range` (or is not).
fn within(register: Reg, load: fn(Family, Reg) -> Expr, range: Cidr, inside: bool) -> Vec<Expr> {
    let base = range.base().octets();
    let compare = if inside {
        Expr::equal(register, &base)
    } else {
        Expr::not_equal(register, &base)
    };
    vec![
        load(Family::Ip, register),
        Expr::mask(register, &range.mask().octets()),
        compare,
    ]
}

fn pair(ip: Ipv4Addr) -> Element {
    Element::Key([ip.octets(), ip.octets()].concat())
}

/// A device's name as the kernel compares it.
fn device(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_padded() {
        assert_eq!(&device("lo")[..4], b"lo\0\0");
        assert_eq!(device("0123456789abcdefgh").len(), 16);
    }
}
