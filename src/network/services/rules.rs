//! The plan as nftables: one verdict map from (address, protocol, port) to a
//! class, and per class (a number of endpoints) one map in which a random
//! number finds the endpoint. Every change is set elements only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use sys::nft::{
    Batch, Chain, ChainKind, Data, Element, Expr, Family, HookPoint, Reg, SetKind, SetSpec, Verdict,
};

use super::table::Delta;
use crate::plan::Frontend;

const SERVICES: &str = "services";
const NODE_PORTS: &str = "nodeports";
const REFUSED: &str = "refused";
const DISPATCH: &str = "dispatch";

const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const MARK: u32 = 19;
const NODE_PORT_KEY: (u32, u32) = (PROTOCOL << 6 | PORT, 8);
const SERVICE_KEY: (u32, u32) = (ADDRESS << 12 | PROTOCOL << 6 | PORT, 12);
const ENDPOINT: Data = Data::Value(ADDRESS << 6 | PORT, 8);

const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const TCP: u8 = 6;
/// `RTN_LOCAL`: one of the machine's own addresses.
const LOCAL: u32 = 2;

const R: [Reg; 4] = [Reg::new(0), Reg::new(1), Reg::new(2), Reg::new(3)];

/// Frontends with this many endpoints, reached by an address of their own or
/// by a port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    node_port: bool,
    endpoints: usize,
}

impl Class {
    fn name(self) -> String {
        format!("{}{}", if self.node_port { "n" } else { "s" }, self.endpoints)
    }
}

/// One instance's table and which classes it has.
#[derive(Debug)]
pub(super) struct Rules {
    table: String,
    classes: BTreeSet<Class>,
}

impl Rules {
    /// For the table of that name.
    pub(super) fn new(table: String) -> Rules {
        Rules {
            table,
            classes: BTreeSet::new(),
        }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Replaces whatever table there is by one with these frontends.
    pub(super) fn replace(&mut self, all: &[Delta]) -> Batch {
        self.classes.clear();
        let mut batch = Batch::new(Family::Ip);
        batch.clear_table(&self.table).add_table(&self.table);
        self.skeleton(&mut batch);
        self.elements(all, &mut batch);
        batch
    }

    /// Changes some frontends.
    pub(super) fn change(&mut self, deltas: &[Delta]) -> Batch {
        let mut batch = Batch::new(Family::Ip);
        self.elements(deltas, &mut batch);
        batch
    }

    fn skeleton(&self, batch: &mut Batch) {
        let table = &self.table;
        for (name, key, data) in [
            (SERVICES, SERVICE_KEY, Data::Verdict),
            (NODE_PORTS, NODE_PORT_KEY, Data::Verdict),
            (REFUSED, NODE_PORT_KEY, Data::None),
        ] {
            batch.add_set(
                table,
                &SetSpec {
                    name,
                    key,
                    data,
                    kind: SetKind::Plain,
                },
            );
        }
        batch.add_chain(
            table,
            &Chain {
                name: DISPATCH,
                hook: None,
            },
        );
        for rule in dispatch() {
            batch.add_rule(table, DISPATCH, &rule);
        }
        let jump = [Expr::verdict(Verdict::Jump(DISPATCH.into()))];
        for (name, point) in [
            ("prerouting", HookPoint::Prerouting),
            ("output", HookPoint::Output),
        ] {
            let hook = Some((ChainKind::Nat, point, DESTINATION_NAT));
            batch
                .add_chain(table, &Chain { name, hook })
                .add_rule(table, name, &jump);
        }
        let hook = Some((ChainKind::Filter, HookPoint::Input, FILTER));
        batch.add_chain(table, &Chain { name: "input", hook });
        for rule in refusals() {
            batch.add_rule(table, "input", &rule);
        }
    }

    fn elements(&mut self, deltas: &[Delta], batch: &mut Batch) {
        let mut changes = Changes::default();
        for delta in deltas {
            changes.frontend(delta);
        }
        for class in changes.classes {
            if self.classes.insert(class) {
                self.add_class(class, batch);
            }
        }
        for (set, elements) in &changes.delete {
            batch.delete_elements(&self.table, set, elements);
        }
        for (set, elements) in &changes.add {
            batch.add_elements(&self.table, set, elements);
        }
    }

    fn add_class(&self, class: Class, batch: &mut Batch) {
        let name = class.name();
        let (kind, length) = if class.node_port {
            NODE_PORT_KEY
        } else {
            SERVICE_KEY
        };
        let key = (kind << 6 | MARK, length + 4);
        batch.add_chain(
            &self.table,
            &Chain {
                name: &name,
                hook: None,
            },
        );
        batch.add_set(
            &self.table,
            &SetSpec {
                name: &name,
                key,
                data: ENDPOINT,
                kind: SetKind::Plain,
            },
        );
        let mut rule = if class.node_port {
            node_port_key()
        } else {
            service_key()
        };
        let random = R[(length / 4) as usize];
        rule.extend([
            Expr::random(random, class.endpoints as u32),
            Expr::map(&name, R[0], R[0]),
            Expr::destination_nat(Family::Ip, R[0], R[1]),
        ]);
        batch.add_rule(&self.table, &name, &rule);
    }
}

fn service_key() -> Vec<Expr> {
    vec![
        Expr::destination(Family::Ip, R[0]),
        Expr::protocol(R[1]),
        Expr::destination_port(R[2]),
    ]
}

fn node_port_key() -> Vec<Expr> {
    vec![Expr::protocol(R[0]), Expr::destination_port(R[1])]
}

fn dispatch() -> [Vec<Expr>; 2] {
    let mut services = service_key();
    services.push(Expr::verdict_map(SERVICES, R[0]));
    // 127/8 could not be left by the reply.
    let mut node_ports = vec![
        Expr::destination(Family::Ip, R[0]),
        Expr::mask(R[0], &[255, 0, 0, 0]),
        Expr::not_equal(R[0], &[127, 0, 0, 0]),
        Expr::destination_kind(R[0]),
        Expr::equal(R[0], &LOCAL.to_ne_bytes()),
    ];
    node_ports.extend(node_port_key());
    node_ports.push(Expr::verdict_map(NODE_PORTS, R[0]));
    [services, node_ports]
}

/// A node port without endpoints must not reach a process that happens to
/// listen there.
fn refusals() -> [Vec<Expr>; 2] {
    let mut refused = node_port_key();
    refused.push(Expr::member(REFUSED, R[0]));
    let mut tcp = refused.clone();
    tcp.extend([
        Expr::protocol(R[0]),
        Expr::equal(R[0], &[TCP]),
        Expr::reject_tcp(),
    ]);
    refused.push(Expr::reject(Family::Ip));
    [tcp, refused]
}

/// Elements to remove and to add, by set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    classes: BTreeSet<Class>,
    delete: BTreeMap<String, Vec<Element>>,
    add: BTreeMap<String, Vec<Element>>,
}

impl Changes {
    fn frontend(&mut self, delta: &Delta) {
        let node_port = delta.frontend.address.is_none();
        let key = key(&delta.frontend);
        let entry = if node_port { NODE_PORTS } else { SERVICES };
        let count = |backends: &Option<Vec<_>>| backends.as_ref().map_or(0, Vec::len);
        let (old, new) = (count(&delta.old), count(&delta.new));
        let class = |endpoints| Class { node_port, endpoints };
        if old != new {
            if old > 0 {
                self.delete(entry, Element::Key(key.clone()));
            }
            if new > 0 {
                self.classes.insert(class(new));
                let verdict = Verdict::Goto(class(new).name());
                self.add(entry, Element::Verdict(key.clone(), verdict));
            }
        }
        let empty = |backends: &Option<Vec<_>>| node_port && backends.as_ref().is_some_and(Vec::is_empty);
        match (empty(&delta.old), empty(&delta.new)) {
            (true, false) => self.delete(REFUSED, Element::Key(key.clone())),
            (false, true) => self.add(REFUSED, Element::Key(key.clone())),
            _ => {}
        }
        self.endpoints(&key, &class, delta);
    }

    fn endpoints(&mut self, key: &[u8], class: &impl Fn(usize) -> Class, delta: &Delta) {
        let (old, new) = (
            delta.old.as_deref().unwrap_or(&[]),
            delta.new.as_deref().unwrap_or(&[]),
        );
        let resized = old.len() != new.len();
        let numbered = |n: usize| [key, &(n as u32).to_ne_bytes()].concat();
        for (n, backend) in old.iter().enumerate() {
            if resized || new.get(n) != Some(backend) {
                self.delete(&class(old.len()).name(), Element::Key(numbered(n)));
            }
        }
        for (n, backend) in new.iter().enumerate() {
            if resized || old.get(n) != Some(backend) {
                let element = Element::Value(numbered(n), target(backend));
                self.add(&class(new.len()).name(), element);
            }
        }
    }

    fn delete(&mut self, set: &str, element: Element) {
        self.delete.entry(set.to_string()).or_default().push(element);
    }

    fn add(&mut self, set: &str, element: Element) {
        self.add.entry(set.to_string()).or_default().push(element);
    }
}

/// Each part of a key fills a word.
fn key(frontend: &Frontend) -> Vec<u8> {
    let mut key = frontend.address.map(|a| a.octets().to_vec()).unwrap_or_default();
    key.extend([frontend.protocol.number(), 0, 0, 0]);
    key.extend(frontend.port.to_be_bytes());
    key.extend([0, 0]);
    key
}

fn target(backend: &SocketAddrV4) -> Vec<u8> {
    let mut value = backend.ip().octets().to_vec();
    value.extend(backend.port().to_be_bytes());
    value.extend([0, 0]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Protocol;

    fn backends(last: &[u8]) -> Option<Vec<SocketAddrV4>> {
        Some(
            last.iter()
                .map(|n| SocketAddrV4::new([10, 64, 0, *n].into(), 8080))
                .collect(),
        )
    }

    fn changes(
        address: Option<u8>,
        old: Option<Vec<SocketAddrV4>>,
        new: Option<Vec<SocketAddrV4>>,
    ) -> Changes {
        let address = address.map(|last| [10, 43, 0, last].into());
        let mut changes = Changes::default();
        let frontend = Frontend {
            address,
            protocol: Protocol::Tcp,
            port: 80,
        };
        changes.frontend(&Delta { frontend, old, new });
        changes
    }

    fn sizes(sets: &BTreeMap<String, Vec<Element>>) -> Vec<(&str, usize)> {
        sets.iter()
            .map(|(set, elements)| (set.as_str(), elements.len()))
            .collect()
    }

    #[test]
    fn a_new_service_is_one_class_entry_and_its_endpoints() {
        let changes = changes(Some(7), None, backends(&[2, 3]));
        assert!(changes.delete.is_empty());
        assert_eq!(sizes(&changes.add), [("s2", 2), ("services", 1)]);
        let element = &changes.add["s2"][1];
        let key = [10, 43, 0, 7, 6, 0, 0, 0, 0, 80, 0, 0, 1, 0, 0, 0].to_vec();
        assert_eq!(
            *element,
            Element::Value(key, vec![10, 64, 0, 3, 0x1f, 0x90, 0, 0])
        );
    }

    #[test]
    fn a_replaced_endpoint_is_one_element() {
        let changes = changes(Some(7), backends(&[2, 3, 4]), backends(&[2, 5, 4]));
        assert_eq!(sizes(&changes.delete), [("s3", 1)]);
        assert_eq!(sizes(&changes.add), [("s3", 1)]);
        assert!(changes.classes.is_empty());
    }

    #[test]
    fn another_number_of_endpoints_is_another_class() {
        let changes = changes(Some(7), backends(&[2, 3]), backends(&[2, 3, 4]));
        assert_eq!(sizes(&changes.delete), [("s2", 2), ("services", 1)]);
        assert_eq!(sizes(&changes.add), [("s3", 3), ("services", 1)]);
    }

    #[test]
    fn a_node_port_without_endpoints_is_refused_and_a_cluster_address_simply_absent() {
        assert_eq!(sizes(&changes(None, None, backends(&[])).add), [("refused", 1)]);
        assert_eq!(
            sizes(&changes(None, backends(&[]), None).delete),
            [("refused", 1)]
        );
        let filled = changes(None, backends(&[]), backends(&[2]));
        assert_eq!(sizes(&filled.delete), [("refused", 1)]);
        assert_eq!(sizes(&filled.add), [("n1", 1), ("nodeports", 1)]);
        assert_eq!(changes(Some(7), None, backends(&[])), Changes::default());
    }
}
