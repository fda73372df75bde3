//! ServiceCIDR and IPAddress: from which ranges Services get their addresses, and which are taken.

use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, IMMUTABLE, list, text};

/// `ServiceCIDR`.
pub static SERVICE_CIDR: Kind = Kind {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    subresources: &[Subresource::status("ServiceCIDR")],
    storage_version_hash: "gNLvruQhW2g=",
    prepare_create: |range| crate::value::remove(range, "status"),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate: ranges,
    validate_update: ranges_stay,
    columns: &[Column::NAME, Column::text("CIDRs"), Column::AGE],
    row: |range, now| {
        let cidrs: Vec<&str> = list(range, "spec.cidrs")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![cells::name(range), json!(cidrs.join(",")), cells::age(range, now)]
    },
    ..Kind::CLUSTER_WITH_STATUS
};

/// `IPAddress`; its name is the address.
pub static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    storage_version_hash: "3f/plJFChNE=",
    name_rule: names::ip_address,
    validate: parent,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        // The core group's name is empty, whether it is written or not.
        if parent_parts(new) != parent_parts(old) {
            Field::at(new, "spec.parentRef").immutable(old, &mut errors);
        }
        errors
    },
    columns: &[Column::NAME, Column::text("ParentRef")],
    row: |address, _| vec![cells::name(address), json!(parent_text(address))],
    ..Kind::CLUSTER
};

fn ranges(range: &Value) -> Vec<FieldError> {
    let spec = Field::at(range, "spec");
    let (all, cidrs) = (spec.get("cidrs"), spec.items("cidrs"));
    match cidrs.len() {
        0 => return vec![all.required("at least one CIDR required")],
        1 | 2 => {}
        _ => {
            let held = spec.value.clone();
            return vec![FieldError::invalid(
                all.path,
                held,
                "may only hold up to 2 values",
            )];
        }
    }
    let mut errors: Vec<FieldError> = cidrs
        .iter()
        .flat_map(|cidr| cidr.invalid_each(names::is_cidr(cidr.text())))
        .collect();
    if let ([first, second], []) = (&cidrs[..], &errors[..])
        && first.text().contains(':') == second.text().contains(':')
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(all.invalid(why));
    }
    errors
}

/// A range of the other family may be added; nothing else changes.
fn ranges_stay(new: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, before) = (Field::at(new, "spec"), list(old, "spec.cidrs"));
    let cidrs = spec.items("cidrs");
    let kept = |cidrs: &[Field<'_>]| -> Vec<FieldError> {
        let pairs = cidrs.iter().zip(before);
        let changed = pairs.filter(|(cidr, old)| Some(cidr.text()) != old.as_str());
        changed.map(|(cidr, _)| cidr.invalid(IMMUTABLE)).collect()
    };
    match (before.len(), cidrs.len()) {
        (old, new) if old == new => kept(&cidrs),
        (1, 2) => kept(&cidrs).into_iter().chain(ranges(new)).collect(),
        _ => vec![spec.get("cidrs").invalid(IMMUTABLE)],
    }
}

fn parent(address: &Value) -> Vec<FieldError> {
    let at = Field::at(address, "spec.parentRef");
    if !at.is_set() {
        return vec![at.required("")];
    }
    let mut errors = Vec::new();
    let group = at.get("group");
    if !group.is_blank() {
        errors.extend(group.invalid_each(names::is_dns_subdomain(group.text())));
    }
    for key in ["resource", "name", "namespace"] {
        let field = at.get(key);
        if key != "namespace" {
            field.needed(&mut errors);
        }
        if !field.is_blank() {
            errors.extend(field.invalid_each(names::path_segment(field.text(), false)));
        }
    }
    errors
}

/// Group, resource, namespace and name of whose address it is.
fn parent_parts(address: &Value) -> [&str; 4] {
    ["group", "resource", "namespace", "name"].map(|key| text(address, &format!("spec.parentRef.{key}")))
}

/// Whose address it is, such as `services/default/kubernetes`.
fn parent_text(address: &Value) -> String {
    let [group, resource, namespace, name] = parent_parts(address);
    let resource = if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    };
    let all = [resource.as_str(), namespace, name];
    all.into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_their_names() {
        let address = json!({"metadata": {"name": "10.43.0.1"}, "spec": {"parentRef":
            {"resource": "services", "namespace": "default", "name": "kubernetes"}}});
        assert!(IP_ADDRESS.check_create(&address).is_empty());
        assert_eq!(parent_text(&address), "services/default/kubernetes");
        let mut as_it_was = address.clone();
        as_it_was["spec"]["parentRef"]["group"] = json!("");
        assert!((IP_ADDRESS.validate_update)(&address, &as_it_was).is_empty());
        as_it_was["spec"]["parentRef"]["name"] = json!("other");
        assert_eq!((IP_ADDRESS.validate_update)(&address, &as_it_was).len(), 1);
        let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.43.0.0/16"]}});
        assert!(SERVICE_CIDR.check_create(&range).is_empty());
        let mut both = range.clone();
        both["spec"]["cidrs"] = json!(["10.43.0.0/16", "fd43::/112"]);
        assert!((SERVICE_CIDR.validate_update)(&both, &range).is_empty());
        assert_eq!((SERVICE_CIDR.validate_update)(&range, &both).len(), 1);
    }
}
