//! NetworkPolicy: which traffic pods may have.

use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind};
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get, get_mut, list};

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
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.items(direction) {
            for port in rule.items("ports") {
                self::port(&port, &mut errors);
            }
            for peer in rule.items(peers) {
                self::peer(&peer, &mut errors);
            }
        }
    }
    for kind in spec.items("policyTypes") {
        kind.one_of(&["Egress", "Ingress"], &mut errors);
    }
    errors
}

fn port(port: &Field, errors: &mut Vec<FieldError>) {
    port.get("protocol")
        .one_of_if_set(&["SCTP", "TCP", "UDP"], errors);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value {
        Value::Number(n) => {
            errors.extend(number.invalid_each(names::is_port_number(n.as_i64().unwrap_or(0))))
        }
        Value::String(name) => errors.extend(number.invalid_each(names::is_port_name(name))),
        _ => {}
    }
    if let Some(last) = end.int() {
        match number.int() {
            None => errors.push(number.required("must be specified as an integer when endPort is specified")),
            Some(first) if last < first => {
                errors.push(end.invalid("must be greater than or equal to `port`"))
            }
            Some(_) => errors.extend(end.invalid_each(names::is_port_number(last))),
        }
    }
}

fn peer(peer: &Field, errors: &mut Vec<FieldError>) {
    let (pods, namespaces, block) = (
        peer.get("podSelector"),
        peer.get("namespaceSelector"),
        peer.get("ipBlock"),
    );
    if !pods.is_set() && !namespaces.is_set() && !block.is_set() {
        errors.push(peer.required("must specify a peer"));
    } else if block.is_set() && (pods.is_set() || namespaces.is_set()) {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
    selector::validate(&pods, errors);
    selector::validate(&namespaces, errors);
    if block.is_set() {
        let cidr = block.get("cidr");
        if cidr.is_blank() {
            errors.push(cidr.required(""));
        } else {
            errors.extend(cidr.invalid_each(names::is_cidr(cidr.text())));
        }
        for except in block.items("except") {
            errors.extend(except.invalid_each(names::is_cidr(except.text())));
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
