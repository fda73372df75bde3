//! The nftables table that pods need whatever Services there are: who gets
//! another source address on the way, and what is refused at once.

use std::net::IpAddr;

use sys::nft::{Batch, Chain, ChainKind, Data, Element, Expr, Family, HookPoint, Reg, SetKind, SetSpec};

use crate::config::NetworkConfig;
use crate::names;
use crate::services::ServiceProxy;
use api::cidr::{Addresses, Cidr};

/// Pods in namespaces of their own, as (address, address): the connection of
/// a pod to itself by way of a Service.
const HAIRPIN: &str = "hairpin";
const A: Reg = Reg::new(0);
/// Behind the four words of the longest address, so that a pair is one key.
const fn behind(family: Family) -> Reg {
    match family {
        Family::Ip => Reg::new(1),
        Family::Ip6 => Reg::new(4),
    }
}
/// `IPS_DST_NAT` of a connection's status.
const TRANSLATED: u32 = 1 << 5;
const TCP: u8 = 6;
/// Priorities at which the kernel's own address translation of sources and
/// ordinary filters stand.
const SOURCE_NAT: i32 = 100;
const FILTER: i32 = 0;

/// The whole table of each family in use, replacing what is there; `sources`
/// is from where the host talks to pods.
pub(super) fn tables(config: &NetworkConfig, sources: &[IpAddr], own_pods: &[IpAddr]) -> Vec<Batch> {
    let tables = sources.iter().filter_map(|source| {
        let there = There::of(config, Family::of(*source))?;
        Some(table(config, &there, *source, own_pods))
    });
    tables.collect()
}

/// The ranges of one family.
struct There {
    family: Family,
    pods: Cidr,
    node: Cidr,
    services: Option<Cidr>,
}

impl There {
    fn of(config: &NetworkConfig, family: Family) -> Option<There> {
        let ipv6 = family == Family::Ip6;
        Some(There {
            family,
            pods: config.pod_cidr.family(ipv6)?,
            node: config.node_cidr.family(ipv6)?,
            // Sockets are refused by themselves where nobody listens.
            services: config
                .service_cidr
                .family(ipv6)
                .filter(|_| config.proxy == ServiceProxy::Kernel),
        })
    }
}

fn table(config: &NetworkConfig, there: &There, source: IpAddr, own_pods: &[IpAddr]) -> Batch {
    let (family, table) = (there.family, names::pods_table(&config.instance_id));
    let kind = family.address_type();
    let mut batch = Batch::new(family);
    batch.clear_table(&table).add_table(&table);
    batch.add_set(
        &table,
        &SetSpec {
            name: HAIRPIN,
            key: (kind << 6 | kind, 2 * family.address_bytes()),
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
    for rule in postrouting(config, there, source) {
        batch.add_rule(&table, "postrouting", &rule);
    }
    for chain in ["forward", "output"] {
        for rule in refusals(config, there) {
            batch.add_rule(&table, chain, &rule);
        }
    }
    batch.add_elements(&table, HAIRPIN, &pairs(family, own_pods.iter().copied()));
    batch
}

/// A pod in a namespace of its own came, with these addresses.
pub(super) fn add_pod(config: &NetworkConfig, addresses: Addresses) -> Vec<Batch> {
    let add = |family| {
        let mut batch = Batch::new(family);
        let table = names::pods_table(&config.instance_id);
        batch.add_elements(&table, HAIRPIN, &pairs(family, addresses.iter()));
        batch
    };
    Family::ALL.into_iter().map(add).collect()
}

/// It went.
pub(super) fn remove_pod(config: &NetworkConfig, addresses: Addresses) -> Vec<Batch> {
    let remove = |family| {
        let mut batch = Batch::new(family);
        let table = names::pods_table(&config.instance_id);
        batch.delete_elements(&table, HAIRPIN, &pairs(family, addresses.iter()));
        batch
    };
    Family::ALL.into_iter().map(remove).collect()
}

fn postrouting(config: &NetworkConfig, there: &There, source: IpAddr) -> Vec<Vec<Expr>> {
    let family = there.family;
    let shared = device(&names::shared_link(&config.instance_id));
    let as_node = |mut rule: Vec<Expr>| {
        rule.extend([Expr::constant(A, &octets(source)), Expr::source_nat(family, A)]);
        rule
    };
    let from = Expr::source(family, A);
    let to = Expr::destination(family, A);
    let mut foreign = within(A, &from, there.pods, false);
    foreign.extend(within(A, &to, there.node, false));
    let mut leaving = within(A, &from, there.node, true);
    leaving.extend(within(A, &to, there.pods, false));
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
            Expr::source(family, A),
            Expr::destination(family, behind(family)),
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
fn refusals(config: &NetworkConfig, there: &There) -> Vec<Vec<Expr>> {
    let Some(services) = there.services else {
        return Vec::new();
    };
    let to = Expr::destination(there.family, A);
    let mut to_services = within(A, &to, services, true);
    if services.contains(config.dns_ip) {
        to_services.extend([to, Expr::not_equal(A, &config.dns_ip.octets())]);
    }
    let mut tcp = to_services.clone();
    tcp.extend([Expr::protocol(A), Expr::equal(A, &[TCP]), Expr::reject_tcp()]);
    let mut rest = to_services;
    rest.push(Expr::reject(there.family));
    vec![tcp, rest]
}

/// Goes on if the address that `load` loads is in `range` (or is not).
fn within(register: Reg, load: &Expr, range: Cidr, inside: bool) -> Vec<Expr> {
    let base = octets(range.base());
    let compare = if inside {
        Expr::equal(register, &base)
    } else {
        Expr::not_equal(register, &base)
    };
    vec![load.clone(), Expr::mask(register, &octets(range.mask())), compare]
}

/// Those of a family as keys of the set.
fn pairs(family: Family, addresses: impl Iterator<Item = IpAddr>) -> Vec<Element> {
    let of_family = addresses.filter(|ip| Family::of(*ip) == family);
    of_family
        .map(|ip| Element::Key([octets(ip), octets(ip)].concat()))
        .collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
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
