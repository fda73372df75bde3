//! What the cluster's own names stand for: the Kubernetes DNS specification
//! (kubernetes/dns, `docs/specification.md`, 1.1.0) over the catalog's index.
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::Endpoint;
use sys::nft::Family;

use crate::catalog::{Entry, Index, cluster_ips, is_headless, is_ready};
use crate::config::NetworkConfig;
use crate::plan::Protocol;
use api::cidr::Ranges;

/// Seconds for which clients may keep what we say, also that there is nothing.
const TTL_SECONDS: u32 = 5;
/// The version of the specification that we follow.
const SPECIFICATION: &str = "1.1.0";
const REVERSE: &str = "in-addr.arpa";
const REVERSE6: &str = "ip6.arpa";

/// What the zone says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records; the second list saves the client a further question.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another name's alias, which is to be looked up anywhere.
    Alias(Record, Name),
    /// The name exists, but has no record of that type.
    NoData(Record),
    /// There is no such name. The record is the zone's SOA.
    NoName(Record),
    /// Not ours to answer.
    Foreign,
}

/// The cluster's zone.
#[derive(Debug, Clone)]
pub struct Zone {
    domain: String,
    service_cidr: Ranges,
    pod_cidr: Ranges,
    dns_ips: Vec<IpAddr>,
}

/// What a name turned out to be.
enum Found {
    Addresses(Vec<IpAddr>),
    Services(Vec<Target>),
    Alias(String),
    Pointers(Vec<String>),
    Text(&'static str),
    Apex,
    /// It exists for the sake of the names below it.
    Empty,
    Nothing,
}

/// What an SRV record points at.
struct Target {
    name: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Zone {
    /// The zone of a cluster.
    pub fn new(config: &NetworkConfig) -> Zone {
        Zone {
            domain: config.domain.trim_end_matches('.').to_ascii_lowercase(),
            service_cidr: config.service_cidr,
            pod_cidr: config.pod_cidr,
            dns_ips: config.dns_ips(),
        }
    }

    /// Whether a name is the zone's to answer.
    pub fn owns(&self, name: &Name) -> bool {
        let text = text(name);
        self.below(&text, &self.domain).is_some() || self.reverse(&text).is_some()
    }

    /// What `name` stands for.
    pub fn answer(&self, index: &Index, name: &Name, kind: RecordType) -> Answer {
        let text = text(name);
        let (found, apex) = if let Some(labels) = self.below(&text, &self.domain) {
            (self.forward(index, &labels, kind), self.domain.as_str())
        } else if let Some(ip) = self.reverse(&text) {
            let apex = if ip.is_ipv4() { REVERSE } else { REVERSE6 };
            (self.pointers(index, ip), apex)
        } else {
            return Answer::Foreign;
        };
        self.render(name, kind, found, apex)
    }

    /// The labels of a name in front of `apex`, if it lies there.
    fn below<'a>(&self, name: &'a str, apex: &str) -> Option<Vec<&'a str>> {
        if name == apex {
            return Some(Vec::new());
        }
        let prefix = name.strip_suffix(apex)?.strip_suffix('.')?;
        Some(prefix.split('.').collect())
    }

    /// The address that a name under `in-addr.arpa` or `ip6.arpa` means, if it
    /// is the cluster's.
    fn reverse(&self, name: &str) -> Option<IpAddr> {
        let v4 = self.below(name, REVERSE).and_then(|labels| reverse4(&labels));
        let ip = v4.or_else(|| reverse6(&self.below(name, REVERSE6)?))?;
        (self.service_cidr.contains(ip) || self.pod_cidr.contains(ip)).then_some(ip)
    }

    fn forward(&self, index: &Index, labels: &[&str], kind: RecordType) -> Found {
        match labels {
            [] => Found::Apex,
            ["dns-version"] => Found::Text(SPECIFICATION),
            ["ns", "dns"] => Found::Addresses(self.dns_ips.clone()),
            ["dns"] | ["svc"] | ["pod"] => Found::Empty,
            // Namespaces without Services are not known here.
            [_, "pod"] => Found::Empty,
            [address, _, "pod"] => dashed(address).map_or(Found::Nothing, |ip| Found::Addresses(vec![ip])),
            [namespace, "svc"] if index.has_namespace(namespace) => Found::Empty,
            [below @ .., name, namespace, "svc"] => match index.get(namespace, name) {
                Some(entry) => self.service(entry, &format!("{name}.{namespace}.svc"), below, kind),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    /// Names at and below a Service's.
    fn service(&self, entry: &Entry, name: &str, below: &[&str], kind: RecordType) -> Found {
        let Some(service) = entry.service.as_deref() else {
            return Found::Nothing;
        };
        if let Some(target) = external_name(service) {
            return if below.is_empty() {
                Found::Alias(target)
            } else {
                Found::Nothing
            };
        }
        match below {
            [] if kind == RecordType::SRV => services(self.targets(entry, service, name, None)),
            [] => addresses(if is_headless(service) {
                ready(entry)
            } else {
                cluster_ips(service)
            }),
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    services(self.targets(entry, service, name, Some((port, protocol))))
                }
                _ => Found::Nothing,
            },
            [protocol] if protocol.starts_with('_') => Found::Empty,
            [hostname] if is_headless(service) => addresses(of_host(entry, hostname)),
            _ => Found::Nothing,
        }
    }

    /// What SRV records of a Service point at: all its ports or one, by name
    /// and protocol.
    fn targets(
        &self,
        entry: &Entry,
        service: &Service,
        name: &str,
        wanted: Option<(&str, &str)>,
    ) -> Vec<Target> {
        let fits = |port: Option<&str>, protocol: Option<&str>| match wanted {
            None => true,
            Some((want_port, want_protocol)) => {
                port == Some(want_port)
                    && Protocol::parse(protocol) == Protocol::parse(Some(&want_protocol.to_ascii_uppercase()))
            }
        };
        let full = |host: Option<String>| {
            let host = host.map(|host| host + ".").unwrap_or_default();
            format!("{host}{name}.{}", self.domain)
        };
        let mut targets = Vec::new();
        if !is_headless(service) {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            for port in ports.filter(|port| fits(port.name.as_deref(), port.protocol.as_deref())) {
                let Ok(port) = u16::try_from(port.port) else {
                    continue;
                };
                targets.push(Target {
                    name: full(None),
                    port,
                    addresses: cluster_ips(service),
                });
            }
            return targets;
        }
        for slice in Family::ALL.into_iter().flat_map(|family| entry.slices(family)) {
            let ports = slice.ports.iter().flatten();
            for port in ports.filter(|port| fits(port.name.as_deref(), port.protocol.as_deref())) {
                let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else {
                    continue;
                };
                for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
                    let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else {
                        continue;
                    };
                    let name = full(Some(host_of(endpoint, ip)));
                    targets.push(Target {
                        name,
                        port: number,
                        addresses: vec![ip],
                    });
                }
            }
        }
        targets
    }

    /// The names of an address: its Service's, or those of a headless
    /// Service's endpoint.
    fn pointers(&self, index: &Index, ip: IpAddr) -> Found {
        if let Some(key) = index.at_address(ip) {
            return Found::Pointers(vec![format!(
                "{}.{}.svc.{}",
                key.name, key.namespace, self.domain
            )]);
        }
        if self.dns_ips.contains(&ip) {
            return Found::Pointers(vec![format!("ns.dns.{}", self.domain)]);
        }
        let mut names = Vec::new();
        for key in index.at_endpoint(ip) {
            let Some(entry) = index.entry(key) else { continue };
            if !entry.service.as_deref().is_some_and(is_headless) {
                continue;
            }
            let endpoint = entry
                .endpoints()
                .find(|(address, e)| *address == ip && is_ready(e));
            names.extend(endpoint.map(|(ip, endpoint)| {
                format!(
                    "{}.{}.{}.svc.{}",
                    host_of(endpoint, ip),
                    key.name,
                    key.namespace,
                    self.domain
                )
            }));
        }
        if names.is_empty() {
            Found::Nothing
        } else {
            Found::Pointers(names)
        }
    }

    fn render(&self, name: &Name, kind: RecordType, found: Found, apex: &str) -> Answer {
        let record = |data| Record::from_rdata(name.clone(), TTL_SECONDS, data);
        let soa = self.soa(apex);
        let (records, extra) = match found {
            Found::Nothing => return Answer::NoName(soa),
            Found::Alias(target) => match parse(&target) {
                Some(target) => return Answer::Alias(record(RData::CNAME(CNAME(target.clone()))), target),
                None => return Answer::NoData(soa),
            },
            Found::Addresses(ips) => {
                let wanted = ips
                    .into_iter()
                    .map(address)
                    .filter(|data| data.record_type() == kind);
                (wanted.map(record).collect(), Vec::new())
            }
            Found::Services(targets) if kind == RecordType::SRV => service_records(name, targets),
            Found::Pointers(names) if kind == RecordType::PTR => {
                let names = names.iter().filter_map(|name| parse(name));
                (
                    names.map(|name| record(RData::PTR(PTR(name)))).collect(),
                    Vec::new(),
                )
            }
            Found::Text(text) if kind == RecordType::TXT => (
                vec![record(RData::TXT(TXT::new(vec![text.to_string()])))],
                Vec::new(),
            ),
            Found::Apex if kind == RecordType::SOA => (vec![soa.clone()], Vec::new()),
            Found::Apex if kind == RecordType::NS => {
                let server =
                    parse(&format!("ns.dns.{}", self.domain)).map(|name| record(RData::NS(NS(name))));
                (server.into_iter().collect(), Vec::new())
            }
            _ => (Vec::new(), Vec::new()),
        };
        if records.is_empty() {
            Answer::NoData(soa)
        } else {
            Answer::Records(records, extra)
        }
    }

    fn soa(&self, apex: &str) -> Record {
        let name = |text: String| parse(&text).unwrap_or_else(Name::root);
        let data = SOA::new(
            name(format!("ns.dns.{}", self.domain)),
            name(format!("hostmaster.{}", self.domain)),
            1,
            7200,
            1800,
            86400,
            TTL_SECONDS,
        );
        Record::from_rdata(name(apex.to_string()), TTL_SECONDS, RData::SOA(data))
    }
}

fn service_records(name: &Name, targets: Vec<Target>) -> (Vec<Record>, Vec<Record>) {
    let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
    let (mut records, mut extra) = (Vec::new(), Vec::new());
    for target in targets {
        let Some(host) = parse(&target.name) else { continue };
        let data = SRV::new(0, weight, target.port, host.clone());
        records.push(Record::from_rdata(name.clone(), TTL_SECONDS, RData::SRV(data)));
        let record = |ip| Record::from_rdata(host.clone(), TTL_SECONDS, address(ip));
        extra.extend(target.addresses.into_iter().map(record));
    }
    extra.sort_by(|a: &Record, b| a.name.cmp(&b.name));
    extra.dedup();
    (records, extra)
}

/// A headless Service without ready endpoints does not exist (specification, 2.4.1).
fn addresses(mut ips: Vec<IpAddr>) -> Found {
    ips.sort();
    ips.dedup();
    if ips.is_empty() {
        Found::Nothing
    } else {
        Found::Addresses(ips)
    }
}

fn services(targets: Vec<Target>) -> Found {
    if targets.is_empty() {
        Found::Nothing
    } else {
        Found::Services(targets)
    }
}

fn ready(entry: &Entry) -> Vec<IpAddr> {
    entry
        .endpoints()
        .filter(|(_, endpoint)| is_ready(endpoint))
        .map(|(ip, _)| ip)
        .collect()
}

fn of_host(entry: &Entry, host: &str) -> Vec<IpAddr> {
    let ready = entry.endpoints().filter(|(_, endpoint)| is_ready(endpoint));
    ready
        .filter(|(ip, endpoint)| host_of(endpoint, *ip) == host)
        .map(|(ip, _)| ip)
        .collect()
}

/// The label of an endpoint below its Service's name.
fn host_of(endpoint: &Endpoint, ip: IpAddr) -> String {
    let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
    hostname.unwrap_or_else(|| match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        // Written out: a label cannot begin or end with what stands for `::`.
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
    })
}

fn external_name(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.external_name
        .clone()
        .filter(|name| external && !name.is_empty())
}

/// The record that says an address.
fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// `10-64-0-2` or `fd00-0-0-0-0-0-0-2` or `fd00--2` as an address.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

/// The address of the labels before `in-addr.arpa`.
fn reverse4(labels: &[&str]) -> Option<IpAddr> {
    let [d, c, b, a] = labels[..] else { return None };
    format!("{a}.{b}.{c}.{d}")
        .parse::<Ipv4Addr>()
        .ok()
        .map(IpAddr::V4)
}

/// The address of the 32 labels before `ip6.arpa`, a hexadecimal digit each.
fn reverse6(labels: &[&str]) -> Option<IpAddr> {
    let digit = |label: &&str| {
        Some(u128::from(
            u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?,
        ))
    };
    let number = labels
        .iter()
        .rev()
        .try_fold(0u128, |number, label| Some(number << 4 | digit(label)?))?;
    (labels.len() == 32).then(|| Ipv6Addr::from(number).into())
}

/// Lower case, without the final dot.
fn text(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// An absolute name.
pub(super) fn parse(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
