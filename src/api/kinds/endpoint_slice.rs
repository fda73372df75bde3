//! EndpointSlice: some of the addresses behind a Service.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::endpoints::shortened;
use super::{cells, metadata, warnings};
use crate::kind::{Column, Kind};
use crate::names;
use crate::object;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get, int, list, remove, same, text};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20000;

/// Says who writes a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    storage_version_hash: "qgS0xkrxYAI=",
    default: |slice| {
        each(slice, "ports", |port| {
            fill(port, "name", "");
            fill_text(port, "protocol", "TCP");
        });
    },
    prepare_create: |slice| metadata::set_generation(slice, 1),
    prepare_update,
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "addressType").immutable(old, &mut errors);
        errors
    },
    warnings: |new, _| {
        let mut said = Vec::new();
        // Those of the controllers hold addresses of pods, or of Endpoints about which somebody was warned.
        let by_hand = !object::label(new, MANAGED_BY).is_some_and(|by| CONTROLLERS.contains(&by));
        if by_hand && text(new, "addressType") != "FQDN" {
            for endpoint in Field::new(new, "").items("endpoints") {
                let addresses = endpoint.items("addresses");
                addresses
                    .iter()
                    .for_each(|address| warnings::ip(address, &mut said));
            }
        }
        said
    },
    columns: &[
        Column::NAME,
        Column::text("AddressType"),
        Column::text("Ports"),
        Column::text("Endpoints"),
        Column::AGE,
    ],
    row,
    ..Kind::NAMESPACED
};

/// Every change counts but one of metadata; labels do count.
fn prepare_update(new: &mut Value, old: &Value) {
    let bare = |slice: &Value| {
        let mut slice = slice.clone();
        remove(&mut slice, "metadata");
        slice
    };
    let labels = "metadata.labels";
    let changed = !same(&bare(new), &bare(old)) || !same(get(new, labels), get(old, labels));
    metadata::bump_generation(new, old, changed);
}

fn validate(slice: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::new(slice, "");
    let kind = root.get("addressType");
    if kind.is_blank() {
        errors.push(kind.required(""));
    } else {
        kind.one_of_if_set(&["FQDN", "IPv4", "IPv6"], &mut errors);
    }
    let endpoints = root.items("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(root.get("endpoints").too_many(endpoints.len(), ENDPOINTS_MAX));
        return errors;
    }
    for endpoint in endpoints {
        self::endpoint(&endpoint, kind.text(), &mut errors);
    }
    ports(&root, &mut errors);
    errors
}

fn endpoint(endpoint: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let addresses = endpoint.items("addresses");
    let at = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.push(at.required("must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(at.too_many(addresses.len(), ADDRESSES_MAX));
    }
    for address in addresses {
        errors.extend(
            address.invalid_each(match (kind, address.text().parse::<IpAddr>()) {
                ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {
                    names::is_special_ip(address.text())
                }
                ("IPv4" | "IPv6", Ok(_)) => vec![format!("must be an {kind} address")],
                ("IPv4" | "IPv6", Err(_)) => {
                    [names::is_ip(address.text()), names::is_special_ip(address.text())].concat()
                }
                ("FQDN", _) => names::is_dns_subdomain(address.text()),
                _ => Vec::new(),
            }),
        );
    }
    let rules = [
        ("nodeName", names::is_dns_subdomain as fn(&str) -> Vec<String>),
        ("hostname", names::is_dns_label),
    ];
    for (key, rule) in rules {
        let field = endpoint.get(key);
        if field.is_set() {
            errors.extend(field.invalid_each(rule(field.text())));
        }
    }
}

fn ports(root: &Field, errors: &mut Vec<FieldError>) {
    let all = root.items("ports");
    if all.len() > PORTS_MAX {
        errors.push(root.get("ports").too_many(all.len(), PORTS_MAX));
        return;
    }
    let mut seen = BTreeSet::new();
    for port in all {
        let (name, number) = (port.get("name"), port.get("port"));
        if !name.is_blank() {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        if let Some(n) = number.int() {
            errors.extend(number.invalid_each(names::is_port_number(n)));
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
        let application = port.get("appProtocol");
        if application.is_set() {
            errors.extend(application.invalid_each(names::is_qualified_name(application.text())));
        }
    }
}

fn row(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(slice, "ports")
        .iter()
        .map(|port| match (int(port, "port"), text(port, "name")) {
            (Some(n), _) => n.to_string(),
            (None, "") => "*".to_owned(),
            (None, name) => name.to_owned(),
        })
        .collect();
    let addresses: Vec<String> = list(slice, "endpoints")
        .iter()
        .flat_map(|e| list(e, "addresses"))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    vec![
        cells::name(slice),
        json!(text(slice, "addressType")),
        json!(shortened(&ports, "<unset>")),
        json!(shortened(&addresses, "<unset>")),
        cells::age(slice, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fit_their_type() {
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["::1"]}, {}]});
        let texts: Vec<String> = validate(&slice).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "endpoints[1].addresses[0]: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[2].addresses: Required value: must contain at least 1 address"
            ]
        );
        assert_eq!(validate(&json!({}))[0].to_string(), "addressType: Required value");
    }

    #[test]
    fn generations_count_endpoints_and_labels() {
        let old = json!({"metadata": {"generation": 3}, "endpoints": []});
        for (new, generation) in [
            (
                json!({"metadata": {"annotations": {"a": "b"}}, "endpoints": []}),
                3,
            ),
            (json!({"metadata": {"labels": {"a": "b"}}, "endpoints": []}), 4),
            (json!({"metadata": {}, "endpoints": [{}]}), 4),
        ] {
            let mut new = new;
            prepare_update(&mut new, &old);
            assert_eq!(new["metadata"]["generation"], generation);
        }
    }

    #[test]
    fn rows_are_those_of_kubectl() {
        let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}],
            "endpoints": [{"addresses": ["a"]}, {"addresses": ["b"]}, {"addresses": ["c"]}, {"addresses": ["d"]}]});
        let cells = row(&slice, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1..4], ["IPv4", "80,x", "a,b,c + 1 more..."]);
        assert_eq!(
            row(&json!({}), Timestamp::UNIX_EPOCH)[2..4],
            ["<unset>", "<unset>"]
        );
    }
}
