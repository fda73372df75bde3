//! NetworkPolicy: which traffic pods may have.

use serde_json::{Value, json};

use super::{cells, metadata, warnings};
use crate::cidr::Cidr;
use crate::kind::{Column, Kind};
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get, get_mut, list};

/// Directions of traffic, and the key of those at its other end.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    storage_version_hash: "YpfwF18m1G8=",
    default,
    prepare_create: |policy| metadata::set_generation(policy, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate,
    validate_update: |new, _| validate(new),
    warnings: |new, _| {
        let mut said = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for rule in Field::at(new, "spec").items(direction) {
                for block in rule.items(peers).iter().map(|peer| peer.get("ipBlock")) {
                    let ranges = [vec![block.get("cidr")], block.items("except")];
                    ranges
                        .iter()
                        .flatten()
                        .for_each(|range| warnings::cidr(range, &mut said));
                }
            }
        }
        said
    },
    columns: &[Column::NAME, Column::text("Pod-Selector"), Column::AGE],
    row: |policy, now| {
        let selector = selector::format(get(policy, "spec.podSelector"));
        vec![cells::name(policy), json!(selector), cells::age(policy, now)]
    },
    ..Kind::NAMESPACED
};

fn default(policy: &mut Value) {
    let Some(spec) = get_mut(policy, "spec") else {
        return;
    };
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| {
            each(rule, "ports", |port| fill_text(port, "protocol", "TCP"))
        });
    }
    let egress = !list(spec, "egress").is_empty();
    fill(
        spec,
        "policyTypes",
        if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        },
    );
}

fn validate(policy: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(policy, "spec");
    selector::validate(&spec.get("podSelector"), &mut errors);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            for port in rule.items("ports") {
                self::port(&port, &mut errors);
            }
            for peer in rule.items(peers) {
                self::peer(&peer, &mut errors);
            }
        }
    }
    let kinds = spec.items("policyTypes");
    if kinds.len() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.push(spec.get("policyTypes").invalid(why));
        return errors;
    }
    for kind in kinds {
        if !["Ingress", "Egress"].contains(&kind.text()) {
            errors.push(kind.not_supported(&["Ingress", "Egress"]));
        }
    }
    errors
}

fn port(port: &Field, errors: &mut Vec<FieldError>) {
    port.get("protocol")
        .one_of_if_set(&["TCP", "UDP", "SCTP"], errors);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value {
        Value::Number(n) => {
            let first = n.as_i64().unwrap_or(0);
            errors.extend(number.invalid_each(names::is_port_number(first)));
            if let Some(last) = end.int() {
                if last < first {
                    errors.push(end.invalid("must be greater than or equal to `port`"));
                }
                errors.extend(end.invalid_each(names::is_port_number(last)));
            }
        }
        Value::String(name) => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            errors.extend(number.invalid_each(names::is_port_name(name)));
        }
        _ if end.is_set() => errors.push(end.invalid("may not be specified when `port` is not specified")),
        _ => {}
    }
}

fn peer(peer: &Field, errors: &mut Vec<FieldError>) {
    let (pods, namespaces, block) = (
        peer.get("podSelector"),
        peer.get("namespaceSelector"),
        peer.get("ipBlock"),
    );
    selector::validate(&pods, errors);
    selector::validate(&namespaces, errors);
    if block.is_set() {
        self::block(&block, errors);
    }
    if !pods.is_set() && !namespaces.is_set() && !block.is_set() {
        errors.push(peer.required("must specify a peer"));
    } else if block.is_set() && (pods.is_set() || namespaces.is_set()) {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
}

/// A range of addresses, with what is left out of it.
fn block(block: &Field, errors: &mut Vec<FieldError>) {
    let cidr = block.get("cidr");
    if !cidr.needed(errors) {
        return;
    }
    errors.extend(cidr.invalid_each(names::is_cidr(cidr.text())));
    let Ok(whole) = cidr.text().parse::<Cidr>() else {
        return;
    };
    for except in block.items("except") {
        errors.extend(except.invalid_each(names::is_cidr(except.text())));
        let part = except.text().parse::<Cidr>();
        if part.is_ok_and(|part| !whole.contains(part.base()) || whole.bits() >= part.bits()) {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_which_way() {
        let mut policy = json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}});
        (KIND.default)(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
        assert!(validate(&policy).is_empty());
        let bad = json!({"spec": {"ingress": [{"from": [{}, {"ipBlock": {"cidr": "x"}}]}]}});
        let texts: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "spec.ingress[0].from[0]: Required value: must specify a peer"
        );
        assert!(texts[1].starts_with(
            "spec.ingress[0].from[1].ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value"
        ));
    }
}
