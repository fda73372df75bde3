//! ResourceClaim and ResourceClaimTemplate: a wish for devices, and the pattern of such wishes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{driver_name, pool_name, requests};
use crate::kind::{Column, Kind, Subresource};
use crate::kinds::cells;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, get, get_mut, has, list, same};

/// Most users of one claim.
const USERS_MAX: usize = 256;
/// Most devices of one claim.
const RESULTS_MAX: usize = 32;

/// `ResourceClaim`.
pub static CLAIM: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    returns_deleted: true,
    subresources: &[Subresource::status("ResourceClaim")],
    storage_version_hash: "wgAZaHcZxUg=",
    default: |claim| {
        if let Some(devices) = get_mut(claim, "spec.devices") {
            requests::default(devices);
        }
    },
    prepare_create: |claim| crate::value::remove(claim, "status"),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate: |claim| spec(claim, "spec"),
    validate_update: |new, old| {
        let mut errors = Vec::new();
        Field::at(new, "spec").immutable(old, &mut errors);
        errors
    },
    validate_status: status,
    reset_fields_status: &["metadata", "spec"],
    columns: &[Column::NAME, Column::text("State"), Column::AGE],
    row,
    ..Kind::WITH_STATUS
};

/// `ResourceClaimTemplate`.
pub static TEMPLATE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    returns_deleted: true,
    storage_version_hash: "TuzjC49aUfM=",
    default: |template| {
        if let Some(devices) = get_mut(template, "spec.spec.devices") {
            requests::default(devices);
        }
    },
    validate: |template| spec(template, "spec.spec"),
    validate_update: |new, old| {
        let mut errors = Vec::new();
        Field::at(new, "spec").immutable(old, &mut errors);
        errors
    },
    columns: &[Column::NAME, Column::AGE],
    row: |template, now| vec![cells::name(template), cells::age(template, now)],
    ..Kind::NAMESPACED
};

fn spec(object: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    requests::validate(&Field::at(object, path).get("devices"), &mut errors);
    errors
}

fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(new, "status");
    status.at_most("reservedFor", USERS_MAX, &mut errors);
    for user in status.items("reservedFor") {
        for key in ["resource", "name", "uid"] {
            user.get(key).needed(&mut errors);
        }
    }
    status.unique("reservedFor", "uid", &mut errors);
    let (users, allocation) = (status.get("reservedFor"), status.get("allocation"));
    if !users.is_blank() && !allocation.is_set() {
        errors.push(users.forbidden("may not be specified when `allocated` is not set"));
    }
    let before = list(old, "status.reservedFor");
    let joins = list(new, "status.reservedFor")
        .iter()
        .any(|user| !before.contains(user));
    if has(new, "metadata.deletionTimestamp") && allocation.is_set() && joins {
        errors.push(users.forbidden(
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
        ));
    }
    if has(old, "status.allocation") && allocation.is_set() {
        allocation.immutable(old, &mut errors);
    } else if allocation.is_set() {
        allocated(&allocation, new, &mut errors);
    }
    for device in status.items("devices") {
        driver_name(&device.get("driver"), &mut errors);
        pool_name(&device.get("pool"), &mut errors);
        let here = |result: &Value| {
            ["driver", "pool", "device"]
                .iter()
                .all(|key| same(get(result, key), device.get(key).value))
        };
        if !list(new, "status.allocation.devices.results").iter().any(here) {
            errors.push(device.invalid("must be an allocated device in the claim"));
        }
    }
    errors
}

fn allocated(allocation: &Field, claim: &Value, errors: &mut Vec<FieldError>) {
    let known = requests::names_of(get(claim, "spec.devices"));
    let devices = allocation.get("devices");
    devices.at_most("results", RESULTS_MAX, errors);
    for result in devices.items("results") {
        requests::reference(&result.get("request"), &known, errors);
        driver_name(&result.get("driver"), errors);
        pool_name(&result.get("pool"), errors);
        let device = result.get("device");
        errors.extend(device.invalid_each(names::is_dns_label(device.text())));
    }
    for config in devices.items("config") {
        config.get("source").one_of(&["FromClaim", "FromClass"], errors);
        requests::references(&config, &known, errors);
        super::opaque(&config, errors);
    }
}

fn row(claim: &Value, now: Timestamp) -> Vec<Value> {
    let deleted = has(claim, "metadata.deletionTimestamp");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if has(claim, "status.allocation") {
        states.push("allocated");
        if !list(claim, "status.reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![
        cells::name(claim),
        json!(states.join(",")),
        cells::age(claim, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_unless_said_otherwise() {
        let mut claim = json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c",
            "selectors": [{"cel": {"expression": "device.driver == 'x'"}}]}}],
            "constraints": [{"requests": ["b"], "matchAttribute": "x.io/numa"}]}}});
        (CLAIM.default)(&mut claim);
        assert_eq!(claim["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
        let said: Vec<String> = spec(&claim, "spec").iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "spec.devices.constraints[0].requests[0]: Invalid value: \"b\": must be the name of a request in the claim or \
                 the name of a request and a subrequest separated by '/'"
            ]
        );
    }

    #[test]
    fn only_what_is_allocated_is_used() {
        let old = json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {}}]}}});
        let mut new = old.clone();
        new["status"] = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
        assert_eq!(
            status(&new, &old)[0].to_string(),
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
        );
        let result = json!({"request": "a", "driver": "d.io", "pool": "n1", "device": "g0"});
        new["status"]["allocation"] = json!({"devices": {"results": [result]}});
        assert_eq!(status(&new, &old), []);
    }
}
