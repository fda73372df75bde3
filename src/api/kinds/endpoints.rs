//! Endpoints: the older list of the addresses behind a Service.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, warnings};
use crate::kind::{Column, Kind};
use crate::names;
use crate::object;
use crate::status::FieldError;
use crate::value::{Field, each, fill_text, int, list, text};

/// Most addresses that a row shows.
const SHOWN: usize = 3;

/// Says who writes an Endpoints object.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    warning: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    singular: "endpoints",
    short_names: &["ep"],
    create_on_update: true,
    storage_version_hash: "fWeeMqaN/OA=",
    default: |endpoints| {
        each(endpoints, "subsets", |subset| {
            each(subset, "ports", |port| fill_text(port, "protocol", "TCP"))
        });
    },
    validate,
    validate_update: |new, _| validate(new),
    warnings: |new, _| {
        let mut said = Vec::new();
        // Those of the controller hold addresses of pods, which nobody has written by hand.
        if object::label(new, MANAGED_BY) != Some(CONTROLLER) {
            for subset in Field::new(new, "").items("subsets") {
                let all = ["addresses", "notReadyAddresses"].map(|key| subset.items(key));
                all.iter()
                    .flatten()
                    .for_each(|address| warnings::ip(&address.get("ip"), &mut said));
            }
        }
        said
    },
    columns: &[Column::NAME, Column::text("Endpoints"), Column::AGE],
    row: |endpoints: &Value, now: Timestamp| {
        vec![
            cells::name(endpoints),
            json!(addresses(endpoints)),
            cells::age(endpoints, now),
        ]
    },
    ..Kind::NAMESPACED
};

fn validate(endpoints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for subset in Field::new(endpoints, "").items("subsets") {
        let ready = subset.items("addresses");
        let unready = subset.items("notReadyAddresses");
        if ready.is_empty() && unready.is_empty() {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in ready.iter().chain(&unready) {
            let ip = address.get("ip");
            errors.extend(ip.invalid_each(names::is_ip(ip.text())));
            for (key, rule) in [
                ("hostname", names::is_dns_label as fn(&str) -> Vec<String>),
                ("nodeName", names::is_dns_subdomain),
            ] {
                let field = address.get(key);
                if !field.is_blank() {
                    errors.extend(field.invalid_each(rule(field.text())));
                }
            }
            errors.extend(ip.invalid_each(names::is_special_ip(ip.text())));
        }
        ports(&subset, &mut errors);
    }
    errors
}

fn ports(subset: &Field, errors: &mut Vec<FieldError>) {
    let all = subset.items("ports");
    for port in &all {
        let (name, number) = (port.get("name"), port.get("port"));
        if name.is_blank() {
            if all.len() > 1 {
                errors.push(name.required(""));
            }
        } else {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        let n = number.int().unwrap_or(0);
        errors.extend(
            names::is_port_number(n)
                .into_iter()
                .map(|why| FieldError::invalid(&number.path, n, why)),
        );
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
        let protocol = port.get("appProtocol");
        if protocol.is_set() {
            errors.extend(protocol.invalid_each(names::is_qualified_name(protocol.text())));
        }
    }
}

fn addresses(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(endpoints, "subsets") {
        let ips = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let number = int(port, "port").unwrap_or(0);
            all.extend(ips().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    shortened(&all, "<none>")
}

/// The first few of a list, and how many more there are.
pub fn shortened(all: &[String], none: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        n if n <= SHOWN => all.join(","),
        n => format!(
            "{} + {} more...",
            all.get(..SHOWN).unwrap_or(all).join(","),
            n - SHOWN
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_kubectl() {
        let many = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]});
        assert_eq!(
            addresses(&many),
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."
        );
        assert_eq!(addresses(&json!({})), "<none>");
    }

    #[test]
    fn addresses_and_ports_are_checked() {
        let bad =
            json!({"subsets": [{}, {"addresses": [{"ip": "x"}], "ports": [{"port": 0, "protocol": "TCP"}]}]});
        let texts: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
                "subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"
            ]
        );
    }
}
