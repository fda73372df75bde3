//! What CSI drivers say of nodes: how many volumes each can have, and how much room is left for new ones.

use std::collections::BTreeSet;

use api::quantity::Quantity;
use api::selector::LabelSelector;
use api::storage;
use client::Cache;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

/// Caches of what drivers say.
#[derive(Clone)]
pub struct Drivers {
    /// CSINodes.
    pub nodes: Cache<CSINode>,
    /// CSIDrivers.
    pub drivers: Cache<CSIDriver>,
    /// CSIStorageCapacities.
    pub capacities: Cache<CSIStorageCapacity>,
}

impl Default for Drivers {
    fn default() -> Self {
        Drivers {
            nodes: Cache::fixed([]),
            drivers: Cache::fixed([]),
            capacities: Cache::fixed([]),
        }
    }
}

impl Drivers {
    /// How many volumes of a driver a node can have; `None` without a bound.
    pub fn volumes_max(&self, node: &str, driver: &str) -> Option<usize> {
        let node = self.nodes.get("", node)?;
        let mut drivers = node.spec.drivers.iter();
        let entry = drivers.find(|one| one.name == driver)?;
        usize::try_from(entry.allocatable.as_ref()?.count?).ok()
    }

    /// Whether the class's driver has room for a claim where the node reaches it; one that does not say how much
    /// room it has is taken to have it.
    pub fn have_room(&self, class: &StorageClass, claim: &PersistentVolumeClaim, node: &Node) -> bool {
        let driver = self.drivers.get("", &class.provisioner);
        if driver.is_none_or(|driver| driver.spec.storage_capacity != Some(true)) {
            return true;
        }
        let wanted = storage::requested(claim);
        let all = self.capacities.list();
        let fits = |one: &CSIStorageCapacity| {
            Some(&one.storage_class_name) == class.metadata.name.as_ref()
                && reaches(one, node)
                && most(one).is_some_and(|most| wanted <= most)
        };
        all.iter().any(|one| fits(one))
    }
}

/// The largest volume that could be made.
fn most(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let said = capacity
        .maximum_volume_size
        .as_ref()
        .or(capacity.capacity.as_ref())?;
    said.0.parse().ok()
}

fn reaches(capacity: &CSIStorageCapacity, node: &Node) -> bool {
    // Without a topology it is nowhere, by its documentation.
    let topology = capacity.node_topology.as_ref();
    topology.is_some_and(|topology| LabelSelector::from_typed(Some(topology)).matches(&node.metadata.labels))
}

/// Volumes of one driver, by what the driver knows them by.
pub(crate) type Handles = BTreeSet<String>;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn from<T: for<'de> k8s_openapi::serde::Deserialize<'de>>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn room_is_where_the_driver_says() {
        let drivers = |spec: Value| Drivers {
            drivers: Cache::fixed([from(json!({"metadata": {"name": "d"}, "spec": spec}))]),
            capacities: Cache::fixed([from(
                json!({"metadata": {"name": "c", "namespace": "x"}, "storageClassName": "fast",
                "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "5Gi", "maximumVolumeSize": "2Gi"}),
            )]),
            ..Drivers::default()
        };
        let class: StorageClass = from(json!({"metadata": {"name": "fast"}, "provisioner": "d"}));
        let claim = |size: &str| {
            from(json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": size}}}}))
        };
        let node = |zone: &str| from(json!({"metadata": {"name": "n", "labels": {"zone": zone}}}));
        let silent = drivers(json!({}));
        assert!(silent.have_room(&class, &claim("9Gi"), &node("b")));
        let counted = drivers(json!({"storageCapacity": true}));
        assert!(counted.have_room(&class, &claim("2Gi"), &node("a")));
        assert!(!counted.have_room(&class, &claim("3Gi"), &node("a")));
        assert!(!counted.have_room(&class, &claim("1Gi"), &node("b")));
    }
}
