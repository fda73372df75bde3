//! The drivers that have introduced themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plugins::Plugin;
use plugins::csi::NodeAbility;

/// A driver.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub plugin: Plugin,
    /// What it can do.
    pub abilities: Vec<NodeAbility>,
    /// What the node is to it.
    pub facts: Facts,
}

/// What a node is to a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The driver's name for the node.
    pub node_id: String,
    /// Labels that say what the node can reach.
    pub topology: BTreeMap<String, String>,
    /// Most volumes the node can have; `None` without a bound.
    pub volumes_max: Option<i32>,
}

impl Driver {
    /// Whether it can do that.
    pub fn can(&self, ability: NodeAbility) -> bool {
        self.abilities.contains(&ability)
    }
}

/// All of them, by name. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Drivers {
    // A std mutex: nothing awaits while it is held.
    known: Arc<Mutex<BTreeMap<String, Driver>>>,
}

impl Drivers {
    /// The driver of that name.
    ///
    /// # Errors
    /// The kubelet's text.
    pub fn get(&self, name: &str) -> Result<Driver, String> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    /// Takes a driver in, in place of one of its name.
    pub fn add(&self, driver: Driver) {
        self.lock().insert(driver.name.clone(), driver);
    }

    /// Forgets one.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Driver>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
