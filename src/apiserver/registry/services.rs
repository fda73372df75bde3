//! Addresses and node ports of Services. Each that is in use has a record of
//! its own in the store, written and removed in the same commit as the Service,
//! so that two Services can never have the same one, whoever writes them.

pub(super) mod needs;
pub(super) mod records;

use api::object;
use api::status::{FieldError, Status};
use api::value;
use serde_json::{Value, json};
use store::{Expect, Op};

use super::addresses::PortRange;
use super::{Core, families, text};
use needs::{is_blank, needs_health_port, needs_node_ports, node_ports};
use records::{IP_ADDRESS, MANAGED_BY, MANAGER, NODE_PORT, held, ip_key, port_key};

/// Gives a Service the addresses and ports that it needs and has not; the
/// operations record what is new and forget what is no longer held.
///
/// # Errors
/// 422 for an address or port that is taken or outside the ranges.
pub(super) fn assign(core: &Core, service: &mut Value, live: Option<&Value>) -> Result<Vec<Op>, Status> {
    let before = live.map(held).unwrap_or_default();
    let mut errors = Vec::new();
    families::settle(&core.inner.service_ranges, service, live, &mut errors);
    if errors.is_empty() {
        families::allocate(core, service, &before, &mut errors);
    }
    ports(core, service, &before, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid("", "Service", object::name(service), &errors));
    }
    let after = held(service);
    let mut ops = Vec::new();
    for key in after.iter().filter(|key| !before.contains(key)) {
        ops.push(claim(core, key, service)?);
    }
    let lost = before.into_iter().filter(|key| !after.contains(key));
    ops.extend(lost.map(|key| Op::Delete {
        key,
        expect: Expect::Any,
    }));
    Ok(ops)
}

/// The operations that forget what a removed Service held.
pub(super) fn release(service: &Value) -> Vec<Op> {
    held(service)
        .into_iter()
        .map(|key| Op::Delete {
            key,
            expect: Expect::Any,
        })
        .collect()
}

/// Records that a Service holds an address or port that nobody else holds.
pub(super) fn claim(core: &Core, key: &str, service: &Value) -> Result<Op, Status> {
    let config = &core.inner.config;
    let name = key.rsplit('/').next().unwrap_or_default();
    let kind = if *key == ip_key(name) {
        &IP_ADDRESS
    } else {
        &NODE_PORT
    };
    let mut value = json!({
        "metadata": {
            "name": name, "uid": config.random.uuid(), "creationTimestamp": object::time_text(config.clock.now()),
        },
        "spec": { "parentRef": {
            "resource": "services",
            "namespace": object::namespace(service), "name": object::name(service),
        } },
    });
    if kind.kind == IP_ADDRESS.kind {
        let family = if name.contains(':') { "IPv6" } else { "IPv4" };
        value["metadata"]["labels"] = json!({
            "ipaddress.kubernetes.io/ip-family": family,
            MANAGED_BY: MANAGER,
        });
    }
    let record = text::record(&kind.into(), &kind.api_version(), &value, None)?;
    Ok(Op::Put {
        key: key.to_owned(),
        record,
        expect: Expect::Absent,
    })
}

fn ports(core: &Core, service: &mut Value, before: &[String], errors: &mut Vec<FieldError>) {
    let inner = &core.inner;
    let range = inner.port_range;
    let mut mine: Vec<u16> = node_ports(service);
    let held_before = |port: u16| before.contains(&port_key(port));
    let taken = |port: u16| !held_before(port) && inner.store.peek(&port_key(port)).is_some();
    let pick = |mine: &mut Vec<u16>| {
        let port = range.pick(&*inner.config.random, |port| taken(port) || mine.contains(&port))?;
        mine.push(port);
        Some(port)
    };
    let wants = needs_node_ports(service);
    let mut index = 0;
    // One number for several protocols shares a node port.
    let mut shared: Vec<(Value, u16)> = Vec::new();
    value::each(service, "spec.ports", |port| {
        let path = format!("spec.ports[{index}].nodePort");
        index += 1;
        let given = value::int(port, "nodePort")
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(0);
        if given > 0 {
            errors.extend(port_error(range, path, given, taken(given), held_before(given)));
        } else if wants {
            let number = port.get("port").cloned().unwrap_or_default();
            let same = shared
                .iter()
                .find(|(p, _)| *p == number)
                .map(|(_, node_port)| *node_port);
            match same.or_else(|| pick(&mut mine)) {
                Some(free) => {
                    shared.push((number, free));
                    value::set(port, "nodePort", free);
                }
                None => errors.push(FieldError::invalid(
                    path,
                    0,
                    "failed to allocate a nodePort: range is full",
                )),
            }
        }
    });
    let health = needs_health_port(service) && is_blank(value::get(service, "spec.healthCheckNodePort"));
    if let Some(port) = health.then(|| pick(&mut mine)).flatten() {
        object::set(service, &["spec", "healthCheckNodePort"], port);
    }
}

/// What is wrong with a node port that was asked for by number.
fn port_error(range: PortRange, path: String, port: u16, taken: bool, ours: bool) -> Option<FieldError> {
    let why = if !range.contains(port) && !ours {
        let PortRange { first, last } = range;
        format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
    } else if taken {
        "provided port is already allocated".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid(path, port, why))
}
