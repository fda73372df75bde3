//! The skeleton of a family's table: its sets, and rules that never change.
//!
//! ```text
//! prerouting ─┐               ┌─ guarded, and not from its sources: drop
//!             ├─▶ dispatch ───┼─ from inside: inside-services, inside-nodeports ─┐
//! output ─────┘               └─ services, nodeports ────────────────────────────┴─▶ class
//! class: [who came before ─▶ sticky, if still in alive]  or  random ─▶ endpoint
//! input, forward, output: refused, refused-nodeports ─▶ refuse or drop
//! ```
//!
//! A class is a number of endpoints and, with session affinity, a time: all
//! frontends of a class share one chain and one map.

use api::cidr::Cidr;
use sys::nft::{Batch, Chain, ChainKind, Data, Expr, Family, HookPoint, Reg, SetKind, SetSpec, Verdict};

use crate::plan::{Clients, Door};

pub(super) const GUARDED: &str = "guarded";
pub(super) const SOURCES: &str = "sources";
pub(super) const REFUSE: &str = "refuse";
const DISPATCH: &str = "dispatch";
const INSIDE: &str = "inside";
const REFUSALS: &str = "refusals";

const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const MARK: u32 = 19;

const DESTINATION_NAT: i32 = -100;
/// Just before the pods' own refusals, which know nothing of policies.
const FILTER: i32 = -1;
const TCP: u8 = 6;
/// `RTN_LOCAL`: one of the machine's own addresses.
const LOCAL: u32 = 2;
/// Clients whose endpoint is remembered, per door. Beyond that they are
/// balanced, but not remembered.
const STICKY_MAX: u32 = 1 << 18;

const DOORS: [Door; 4] = [
    Door {
        node: false,
        clients: Clients::All,
    },
    Door {
        node: true,
        clients: Clients::All,
    },
    Door {
        node: false,
        clients: Clients::Inside,
    },
    Door {
        node: true,
        clients: Clients::Inside,
    },
];

/// The verdict map in which a door's frontends are looked up.
pub(super) fn entries(door: Door) -> &'static str {
    match (door.node, door.clients) {
        (false, Clients::All) => "services",
        (true, Clients::All) => "nodeports",
        (false, Clients::Inside) => "inside-services",
        (true, Clients::Inside) => "inside-nodeports",
    }
}

/// The verdict map of a door's frontends without anybody.
pub(super) fn refused(node: bool) -> &'static str {
    if node { "refused-nodeports" } else { "refused" }
}

/// The learned map from (client, frontend) to endpoint.
fn sticky(door: Door) -> String {
    format!("{}-sticky", entries(door))
}

/// The set of (frontend, endpoint) that remembered clients may still use.
pub(super) fn alive(door: Door) -> String {
    format!("{}-alive", entries(door))
}

/// Frontends of a door with this many endpoints, and for how many seconds
/// their clients stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub(super) door: Door,
    pub(super) endpoints: usize,
    pub(super) sticky: Option<u32>,
}

impl Class {
    pub(super) fn name(self) -> String {
        let inside = if self.door.clients == Clients::Inside {
            "i"
        } else {
            ""
        };
        let place = if self.door.node { "n" } else { "s" };
        let stay = self
            .sticky
            .map(|seconds| format!("-{seconds}"))
            .unwrap_or_default();
        format!("{inside}{place}{}{stay}", self.endpoints)
    }
}

/// One family's table as it is laid out.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) table: String,
    pub(super) family: Family,
    /// The cluster's pods, who are inside.
    pub(super) pods: Option<Cidr>,
}

/// Number `n` of the sixteen registers.
fn r(n: u32) -> Reg {
    Reg::new((n % 16) as u8)
}

impl Layout {
    /// Words of an address.
    fn address(&self) -> u32 {
        self.family.address_bytes() / 4
    }

    /// Words of a door's key: address, protocol and port, or the latter two.
    fn key_words(&self, node: bool) -> u32 {
        if node { 2 } else { self.address() + 2 }
    }

    /// Type and bytes of parts that stand one after the other.
    fn key(&self, parts: &[u32]) -> (u32, u32) {
        let bytes = |part: u32| {
            if part == self.family.address_type() {
                self.family.address_bytes()
            } else {
                4
            }
        };
        let kind = parts.iter().fold(0, |kind, part| kind << 6 | part);
        (kind, parts.iter().map(|part| bytes(*part)).sum())
    }

    fn frontend(&self, node: bool) -> Vec<u32> {
        let parts = [self.family.address_type(), PROTOCOL, PORT];
        parts[usize::from(node)..].to_vec()
    }

    fn endpoint(&self) -> Data {
        let (kind, bytes) = self.key(&[self.family.address_type(), PORT]);
        Data::Value(kind, bytes)
    }

    /// Makes sets, chains and rules; the table must be new.
    pub(super) fn skeleton(&self, batch: &mut Batch) {
        self.sets(batch);
        for (name, rules) in [
            (REFUSE, self.refuse()),
            (INSIDE, self.lookups(Clients::Inside)),
            (DISPATCH, self.lookups(Clients::All)),
            (REFUSALS, self.refusals()),
        ] {
            self.chain(batch, name, None, &rules);
        }
        let jump = |chain: &str| vec![Expr::verdict(Verdict::Jump(chain.into()))];
        let nat = |point| Some((ChainKind::Nat, point, DESTINATION_NAT));
        let mut foreign = vec![self.guard()];
        foreign.extend(self.pods_are_inside());
        foreign.push(jump(DISPATCH));
        self.chain(batch, "prerouting", nat(HookPoint::Prerouting), &foreign);
        let own = [self.guard(), jump(INSIDE), jump(DISPATCH)];
        self.chain(batch, "output", nat(HookPoint::Output), &own);
        for (name, point) in [
            ("filter-input", HookPoint::Input),
            ("filter-forward", HookPoint::Forward),
            ("filter-output", HookPoint::Output),
        ] {
            self.chain(
                batch,
                name,
                Some((ChainKind::Filter, point, FILTER)),
                &[jump(REFUSALS)],
            );
        }
    }

    fn sets(&self, batch: &mut Batch) {
        let mut add = |name: &str, parts: &[u32], data, kind| {
            let key = self.key(parts);
            batch.add_set(
                &self.table,
                &SetSpec {
                    name,
                    key,
                    data,
                    kind,
                },
            );
        };
        let address = self.family.address_type();
        for node in [false, true] {
            add(refused(node), &self.frontend(node), Data::Verdict, SetKind::Plain);
        }
        for door in DOORS {
            let frontend = self.frontend(door.node);
            add(entries(door), &frontend, Data::Verdict, SetKind::Plain);
            let client = [&[address], &frontend[..]].concat();
            add(
                &sticky(door),
                &client,
                self.endpoint(),
                SetKind::Learned(STICKY_MAX),
            );
            let member = [&frontend[..], &[address, PORT]].concat();
            add(&alive(door), &member, Data::None, SetKind::Plain);
        }
        add(GUARDED, &self.frontend(false), Data::None, SetKind::Plain);
        let fields = [self.family.address_bytes(), 4, 4, self.family.address_bytes()];
        let client = [&self.frontend(false)[..], &[address]].concat();
        add(SOURCES, &client, Data::None, SetKind::Ranges(&fields));
    }

    fn chain(
        &self,
        batch: &mut Batch,
        name: &str,
        hook: Option<(ChainKind, HookPoint, i32)>,
        rules: &[Vec<Expr>],
    ) {
        batch.add_chain(&self.table, &Chain { name, hook });
        for rule in rules {
            batch.add_rule(&self.table, name, rule);
        }
    }

    /// Makes a class's chain and map.
    pub(super) fn class(&self, class: Class, batch: &mut Batch) {
        let name = class.name();
        let key = self.key(&[&self.frontend(class.door.node)[..], &[MARK]].concat());
        let spec = SetSpec {
            name: &name,
            key,
            data: self.endpoint(),
            kind: SetKind::Plain,
        };
        batch.add_set(&self.table, &spec);
        let rules = match class.sticky {
            None => vec![self.balance(class, 0)],
            Some(seconds) => self.sticky_rules(class, u64::from(seconds) * 1000),
        };
        self.chain(batch, &name, None, &rules);
    }

    /// A random endpoint; the frontend's key is put at register `at`.
    fn balance(&self, class: Class, at: u32) -> Vec<Expr> {
        let mut rule = self.pick(class, at);
        rule.push(self.translate(at));
        rule
    }

    fn pick(&self, class: Class, at: u32) -> Vec<Expr> {
        let mut rule = self.load_frontend(class.door.node, at);
        let random = at + self.key_words(class.door.node);
        // The endpoint takes the place of key or random number, both of which were needed until here.
        let to = if class.sticky.is_some() { random } else { at };
        rule.extend([
            Expr::random(r(random), class.endpoints as u32),
            Expr::map(&class.name(), r(at), r(to)),
        ]);
        rule
    }

    fn translate(&self, endpoint: u32) -> Expr {
        Expr::destination_nat(self.family, r(endpoint), r(endpoint + self.address()))
    }

    /// Registers hold client, frontend, endpoint, in this order, so that
    /// (client, frontend) and (frontend, endpoint) are keys as they stand.
    fn sticky_rules(&self, class: Class, timeout_ms: u64) -> Vec<Vec<Expr>> {
        let (client, frontend) = (0, self.address());
        let endpoint = frontend + self.key_words(class.door.node);
        let (sticky, alive) = (sticky(class.door), alive(class.door));
        let learn = Expr::learn(&sticky, r(client), r(endpoint), timeout_ms);
        let mut known = vec![Expr::source(self.family, r(client))];
        known.extend(self.load_frontend(class.door.node, frontend));
        known.extend([
            Expr::map(&sticky, r(client), r(endpoint)),
            Expr::member(&alive, r(frontend)),
            learn.clone(),
            self.translate(endpoint),
        ]);
        let mut fresh = vec![Expr::source(self.family, r(client))];
        fresh.extend(self.pick(class, frontend));
        // An update keeps what a key leads to, which is an endpoint that went.
        let forget = Expr::unlearn(&sticky, r(client), r(endpoint));
        fresh.extend([forget, learn, self.translate(endpoint)]);
        let mut unremembered = self.pick(class, frontend);
        unremembered.push(self.translate(endpoint));
        vec![known, fresh, unremembered]
    }

    fn load_frontend(&self, node: bool, at: u32) -> Vec<Expr> {
        let mut load = Vec::new();
        let mut next = at;
        if !node {
            load.push(Expr::destination(self.family, r(next)));
            next += self.address();
        }
        load.extend([Expr::protocol(r(next)), Expr::destination_port(r(next + 1))]);
        load
    }

    /// A load balancer's address lets in only those it is for.
    fn guard(&self) -> Vec<Expr> {
        let mut rule = self.load_frontend(false, 0);
        rule.push(Expr::member(GUARDED, r(0)));
        rule.extend([
            Expr::source(self.family, r(self.key_words(false))),
            Expr::stranger(SOURCES, r(0)),
            Expr::verdict(Verdict::Drop),
        ]);
        rule
    }

    /// What comes from pods of the cluster comes from inside.
    fn pods_are_inside(&self) -> Option<Vec<Expr>> {
        let pods = self.pods?;
        Some(vec![
            Expr::source(self.family, r(0)),
            Expr::mask(r(0), &octets(pods.mask())),
            Expr::equal(r(0), &octets(pods.base())),
            Expr::verdict(Verdict::Jump(INSIDE.into())),
        ])
    }

    fn lookups(&self, clients: Clients) -> Vec<Vec<Expr>> {
        let mut services = self.load_frontend(false, 0);
        services.push(Expr::verdict_map(entries(Door { node: false, clients }), r(0)));
        let mut node_ports = self.is_node();
        node_ports.extend(self.load_frontend(true, 0));
        node_ports.push(Expr::verdict_map(entries(Door { node: true, clients }), r(0)));
        vec![services, node_ports]
    }

    /// One of the node's addresses, but not loopback: the reply could not
    /// leave from there.
    fn is_node(&self) -> Vec<Expr> {
        let mut rule = vec![Expr::destination(self.family, r(0))];
        match self.family {
            Family::Ip => rule.extend([
                Expr::mask(r(0), &[255, 0, 0, 0]),
                Expr::not_equal(r(0), &[127, 0, 0, 0]),
            ]),
            Family::Ip6 => rule.push(Expr::not_equal(r(0), &std::net::Ipv6Addr::LOCALHOST.octets())),
        }
        rule.extend([
            Expr::destination_kind(r(0)),
            Expr::equal(r(0), &LOCAL.to_ne_bytes()),
        ]);
        rule
    }

    /// What has nobody to go to must not reach a process that happens to
    /// listen there, nor wander on.
    fn refusals(&self) -> Vec<Vec<Expr>> {
        let mut services = self.load_frontend(false, 0);
        services.push(Expr::verdict_map(refused(false), r(0)));
        let mut node_ports = self.is_node();
        node_ports.extend(self.load_frontend(true, 0));
        node_ports.push(Expr::verdict_map(refused(true), r(0)));
        vec![services, node_ports]
    }

    fn refuse(&self) -> Vec<Vec<Expr>> {
        let tcp = vec![
            Expr::protocol(r(0)),
            Expr::equal(r(0), &[TCP]),
            Expr::reject_tcp(),
        ];
        vec![tcp, vec![Expr::reject(self.family)]]
    }
}

/// An address as packets carry it.
pub(super) fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
