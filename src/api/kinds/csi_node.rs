//! CSINode: which volume drivers a node has.

use serde_json::{Value, json};

use super::{cells, csi_driver};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, list, same, text};

/// The longest id that a driver may give a node, bytes.
const NODE_ID_MAX: usize = 192;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    returns_deleted: true,
    unconditional_update: false,
    storage_version_hash: "Pe62DkZtjuo=",
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        let before = list(old, "spec.drivers");
        for driver in Field::at(new, "spec").items("drivers") {
            let was = before
                .iter()
                .find(|b| text(b, "name") == driver.get("name").text());
            let known = ["name", "nodeID", "topologyKeys"];
            if was.is_some_and(|was| {
                known
                    .iter()
                    .any(|key| !same(driver.get(key).value, crate::value::get(was, key)))
            }) {
                errors.push(driver.invalid("field is immutable"));
            }
        }
        errors
    },
    columns: &[Column::NAME, Column::integer("Drivers"), Column::AGE],
    row: |node, now| {
        let drivers = list(node, "spec.drivers").len();
        vec![cells::name(node), json!(drivers), cells::age(node, now)]
    },
    ..Kind::CLUSTER
};

fn validate(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(node, "spec");
    for driver in spec.items("drivers") {
        csi_driver::driver_name(&driver.get("name"), &mut errors);
        let id = driver.get("nodeID");
        if id.needed(&mut errors) && id.text().len() > NODE_ID_MAX {
            errors.push(id.invalid(format!("must be {NODE_ID_MAX} characters or less")));
        }
        driver.get("allocatable.count").non_negative(&mut errors);
        for key in driver.items("topologyKeys") {
            if key.needed(&mut errors) {
                errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
            }
        }
        driver.unique("topologyKeys", "", &mut errors);
    }
    spec.unique("drivers", "name", &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_driver_once() {
        let driver = json!({"name": "a.io", "nodeID": "n", "topologyKeys": ["x", "x"]});
        let node = json!({"spec": {"drivers": [driver, driver]}});
        let said: Vec<String> = validate(&node).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "spec.drivers[0].topologyKeys[1]: Duplicate value: \"x\"",
                "spec.drivers[1].topologyKeys[1]: Duplicate value: \"x\"",
                "spec.drivers[1].name: Duplicate value: \"a.io\""
            ]
        );
    }
}
