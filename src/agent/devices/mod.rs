//! Devices that plugins provide: a plugin registers a resource (`example.com/gadget`) on the node's socket, lists its
//! devices and how they are, and says what a container gets with those that it is given.
//!
//! Plugins speak the kubelet's `v1beta1`. What has been given stands in a file, since containers outlive the agent;
//! plugins do too, and register again when the node's socket is made anew.

mod cdi;
mod grant;
mod ledger;
mod registration;
pub mod report;
mod socket;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plugins::Plugin;
use plugins::devices::DevicePluginOptions;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use ledger::{Amount, Grant, GrantedMount};
use ledger::{Given, Ledger};

use crate::disk;
use crate::paths::Paths;

/// How many there are of each resource.
pub type Amounts = BTreeMap<String, Amount>;

/// Version of the file.
const VERSION: u32 = 1;

/// What stands in the file.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    version: u32,
    given: Vec<Given>,
}

/// A plugin that has registered.
#[derive(Clone)]
struct Provider {
    plugin: Plugin,
    options: DevicePluginOptions,
    /// Which registration it was: a later one takes its place.
    turn: u64,
}

/// The node's devices. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    /// Where sockets are.
    folder: PathBuf,
    record: PathBuf,
    /// The node's own folder of descriptions.
    cdi: PathBuf,
    state: Arc<Mutex<State>>,
    amounts: Arc<watch::Sender<Amounts>>,
    /// One container chooses after the other, since plugins are asked in between.
    choosing: Arc<tokio::sync::Mutex<()>>,
}

/// Nothing awaits while it is locked.
struct State {
    ledger: Ledger,
    providers: BTreeMap<String, Provider>,
    turns: u64,
}

impl Devices {
    /// The devices of the node as the file remembers them: nobody speaks for them yet.
    pub fn open(paths: &Paths) -> Devices {
        let record: Record = disk::read_json(&paths.devices()).unwrap_or_default();
        let given = match record.version {
            VERSION => record.given,
            _ => Vec::new(),
        };
        let ledger = Ledger::new(given);
        let amounts = watch::Sender::new(ledger.amounts());
        Devices {
            folder: paths.device_plugins(),
            record: paths.devices(),
            cdi: paths.cdi(),
            state: Arc::new(Mutex::new(State {
                ledger,
                providers: BTreeMap::new(),
                turns: 0,
            })),
            amounts: Arc::new(amounts),
            choosing: Arc::default(),
        }
    }

    /// How many there are, now and whenever that changes.
    pub fn amounts(&self) -> watch::Receiver<Amounts> {
        self.amounts.subscribe()
    }

    /// A pod gives back all it has.
    pub fn release(&self, uid: &str) {
        if self.lock().ledger.release(uid)
            && let Err(error) = self.keep()
        {
            tracing::warn!(uid, %error, "a pod's devices stay taken until the agent's restart");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what devices there are, and tells everybody.
    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        let mut state = self.lock();
        change(&mut state.ledger);
        let amounts = state.ledger.amounts();
        self.amounts.send_if_modified(|known| {
            let other = *known != amounts;
            *known = amounts;
            other
        });
    }

    fn keep(&self) -> std::io::Result<()> {
        let given = self.lock().ledger.given().to_vec();
        let record = Record {
            version: VERSION,
            given,
        };
        disk::write_json(&self.record, &record, true)
    }
}
