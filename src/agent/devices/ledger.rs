//! Which devices there are, and who has which. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What a container gets with its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Files of the machine.
    pub mounts: Vec<GrantedMount>,
    /// Devices of the machine.
    pub devices: Vec<oci::Device>,
    /// Names of devices that files of the machine describe.
    pub cdi: Vec<String>,
    /// Programs to be run for it.
    pub hooks: Vec<oci::Hook>,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// A file or folder that comes with a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedMount {
    /// Path on this machine.
    pub host: String,
    /// Path in the container.
    pub path: String,
    /// Refuse writes.
    pub read_only: bool,
}

impl Grant {
    /// Adds another resource's; what was there first stays.
    pub fn extend(&mut self, other: Grant) {
        for (name, value) in other.env {
            self.env.entry(name).or_insert(value);
        }
        let new = |mount: &GrantedMount| !self.mounts.iter().any(|known| known.path == mount.path);
        let mounts: Vec<GrantedMount> = other.mounts.into_iter().filter(new).collect();
        self.mounts.extend(mounts);
        let new = |device: &oci::Device| !self.devices.iter().any(|known| known.path == device.path);
        let devices: Vec<oci::Device> = other.devices.into_iter().filter(new).collect();
        self.devices.extend(devices);
        self.cdi.extend(other.cdi);
        self.hooks.extend(other.hooks);
        self.groups.extend(other.groups);
    }
}

/// Devices of one resource that a container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// UID of its pod.
    pub uid: String,
    /// Its name.
    pub container: String,
    /// The resource, such as `example.com/gadget`.
    pub resource: String,
    /// The devices' ids.
    pub ids: BTreeSet<String>,
    /// What comes with them.
    pub grant: Grant,
}

/// How many devices of a resource there are, and how many of them are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// All.
    pub capacity: usize,
    /// Those that are well.
    pub allocatable: usize,
}

/// What a container may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Those that it is to get: its pod has them already.
    pub must: BTreeSet<String>,
    /// Those that it may get, with the former.
    pub available: BTreeSet<String>,
}

/// All devices of this node.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By resource: the devices by id, and whether they are well.
    devices: BTreeMap<String, BTreeMap<String, bool>>,
    given: Vec<Given>,
}

impl Ledger {
    /// A ledger in which this has been given; of what devices there are nothing is known yet.
    pub fn new(given: Vec<Given>) -> Ledger {
        let devices = given
            .iter()
            .map(|given| (given.resource.clone(), BTreeMap::new()));
        Ledger {
            devices: devices.collect(),
            given,
        }
    }

    /// All that has been given.
    pub fn given(&self) -> &[Given] {
        &self.given
    }

    /// The devices that a resource has by now.
    pub fn set(&mut self, resource: &str, devices: BTreeMap<String, bool>) {
        self.devices.insert(resource.to_owned(), devices);
    }

    /// Nobody speaks for a resource any more: none of its devices counts as well.
    pub fn lose(&mut self, resource: &str) {
        for well in self.devices.entry(resource.to_owned()).or_default().values_mut() {
            *well = false;
        }
    }

    /// How many there are of each resource that was ever known.
    pub fn amounts(&self) -> BTreeMap<String, Amount> {
        let amount = |devices: &BTreeMap<String, bool>| Amount {
            capacity: devices.len(),
            allocatable: devices.values().filter(|well| **well).count(),
        };
        let all = self.devices.iter();
        all.map(|(resource, devices)| (resource.clone(), amount(devices)))
            .collect()
    }

    /// The devices that are well, by resource.
    pub fn well(&self) -> BTreeMap<String, Vec<String>> {
        let of = |devices: &BTreeMap<String, bool>| {
            let well = devices.iter().filter(|(_, well)| **well);
            well.map(|(id, _)| id.clone()).collect()
        };
        let all = self.devices.iter();
        all.map(|(resource, devices)| (resource.clone(), of(devices)))
            .collect()
    }

    /// Whether plugins provide the resource.
    pub fn knows(&self, resource: &str) -> bool {
        self.devices.contains_key(resource)
    }

    /// What a container has of a resource.
    pub fn find(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        let is_it =
            |given: &&Given| given.uid == uid && given.container == container && given.resource == resource;
        self.given.iter().find(is_it)
    }

    /// What a container may be given of a resource, of which it wants so many. What containers of its pod had that
    /// have ended (`before`) goes to it first.
    ///
    /// # Errors
    /// When there are too few, in the kubelet's words.
    pub fn choose(
        &self,
        uid: &str,
        before: &[&str],
        resource: &str,
        wanted: usize,
    ) -> Result<Choice, String> {
        let of_resource = self.given.iter().filter(|given| given.resource == resource);
        let (own, others): (Vec<&Given>, Vec<&Given>) =
            of_resource.partition(|given| given.uid == uid && before.contains(&given.container.as_str()));
        let ids = |list: Vec<&Given>| -> BTreeSet<String> {
            list.into_iter()
                .flat_map(|given| given.ids.iter().cloned())
                .collect()
        };
        let (own, taken) = (ids(own), ids(others));
        let devices = self.devices.get(resource).into_iter().flatten();
        let well: Vec<&String> = devices.filter(|(_, well)| **well).map(|(id, _)| id).collect();
        if well.is_empty() {
            return Err(none_well(resource));
        }
        let free = well.into_iter().filter(|id| !taken.contains(*id));
        let available: BTreeSet<String> = free.cloned().collect();
        if available.len() < wanted {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {}",
                available.len()
            ));
        }
        let must = own.intersection(&available).take(wanted).cloned().collect();
        Ok(Choice { must, available })
    }

    /// Writes down what a container has been given.
    pub fn give(&mut self, given: Given) {
        self.given.push(given);
    }

    /// A pod gives back all it has; whether it had anything.
    pub fn release(&mut self, uid: &str) -> bool {
        let before = self.given.len();
        self.given.retain(|given| given.uid != uid);
        self.given.len() != before
    }
}

/// Why nothing of a resource is given whose plugin is gone, or all of whose devices are ill.
pub fn none_well(resource: &str) -> String {
    format!("no healthy devices present; cannot allocate unhealthy devices {resource}")
}

/// Chooses without anybody's preference: those that must be, then the first ones.
pub fn first_ones(choice: &Choice, wanted: usize) -> BTreeSet<String> {
    let rest = choice.available.difference(&choice.must);
    choice.must.iter().chain(rest).take(wanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GADGET: &str = "example.com/gadget";

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    fn given(uid: &str, container: &str, list: &[&str]) -> Given {
        Given {
            uid: uid.to_owned(),
            container: container.to_owned(),
            resource: GADGET.to_owned(),
            ids: ids(list),
            grant: Grant::default(),
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(vec![given("p", "init", &["a"])]);
        let devices = [("a", true), ("b", true), ("c", false), ("d", true)];
        ledger.set(GADGET, devices.map(|(id, well)| (id.to_owned(), well)).into());
        ledger
    }

    #[test]
    fn what_is_taken_or_ill_is_not_given() {
        let mut ledger = ledger();
        let choice = ledger.choose("q", &[], GADGET, 2).unwrap();
        assert_eq!(choice.available, ids(&["b", "d"]));
        assert_eq!(first_ones(&choice, 1), ids(&["b"]));
        ledger.give(given("q", "main", &["b"]));
        let why = ledger.choose("r", &[], GADGET, 2).unwrap_err();
        let words =
            "requested number of devices unavailable for example.com/gadget. Requested: 2, Available: 1";
        assert_eq!(why, words);
        assert!(ledger.release("q") && !ledger.release("q"));
        assert!(ledger.choose("r", &[], GADGET, 2).is_ok());
    }

    #[test]
    fn a_container_gets_what_those_before_it_had() {
        let choice = ledger().choose("p", &["init"], GADGET, 2).unwrap();
        assert_eq!(choice.must, ids(&["a"]));
        assert_eq!(first_ones(&choice, 2), ids(&["a", "b"]));
        // One that runs beside it keeps its own.
        assert_eq!(ledger().choose("p", &[], GADGET, 1).unwrap().must, ids(&[]));
    }

    #[test]
    fn amounts_follow_health_and_outlive_their_plugin() {
        let mut ledger = ledger();
        let amount = |ledger: &Ledger| ledger.amounts()[GADGET];
        let of = |capacity, allocatable| Amount {
            capacity,
            allocatable,
        };
        assert_eq!(amount(&ledger), of(4, 3));
        assert_eq!(ledger.well()[GADGET], ["a", "b", "d"]);
        ledger.lose(GADGET);
        assert_eq!(amount(&ledger), of(4, 0));
        assert_eq!(
            ledger.choose("q", &[], GADGET, 1).unwrap_err(),
            "no healthy devices present; cannot allocate unhealthy devices example.com/gadget"
        );
        assert_eq!(amount(&Ledger::new(ledger.given().to_vec())), of(0, 0));
    }

    #[test]
    fn what_comes_with_several_resources_is_put_together() {
        let grant = |value: &str, path: &str| Grant {
            env: [("A".to_owned(), value.to_owned())].into(),
            mounts: vec![GrantedMount {
                host: "/h".to_owned(),
                path: path.to_owned(),
                read_only: true,
            }],
            devices: Vec::new(),
            ..Grant::default()
        };
        let mut whole = grant("1", "/x");
        whole.extend(grant("2", "/x"));
        whole.extend(grant("3", "/y"));
        assert_eq!((whole.env["A"].as_str(), whole.mounts.len()), ("1", 2));
    }
}
