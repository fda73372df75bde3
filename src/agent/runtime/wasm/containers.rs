//! The pods and containers that this runtime has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::wasm::{Instance, Interfaces, Network, Program};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::handover::Owner;
use crate::logs::writer::LogWriter;
use crate::runtime::guest::GuestNetwork;
use crate::runtime::{Ending, Launch, RuntimeError};

// A std mutex: nothing awaits while it is held.
#[derive(Default)]
pub(super) struct Containers(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) pods: HashMap<String, Arc<GuestNetwork>>,
    pub(super) containers: HashMap<String, Container>,
}

pub(super) struct Container {
    pub(super) pod_uid: String,
    pub(super) name: String,
    /// What it is made from, for runs of its program beside the first.
    pub(super) origin: Arc<Prepared>,
    /// Where its `wasi:http` program listens.
    pub(super) port: Option<u16>,
    pub(super) stage: Stage,
    /// What was done to make it.
    pub(super) remarks: Vec<(&'static str, String)>,
}

impl Container {
    pub(super) fn owner(&self) -> Owner {
        Owner {
            pod: self.pod_uid.clone(),
            container: self.name.clone(),
        }
    }
}

pub(super) enum Stage {
    Created,
    Starting,
    Started(Started),
}

pub(super) struct Prepared {
    pub(super) programs: Vec<Program>,
    pub(super) launch: Launch,
    pub(super) network: Arc<GuestNetwork>,
}

#[derive(Clone)]
pub(super) struct Started {
    pub(super) instance: Instance,
    pub(super) log: Arc<LogWriter>,
    /// Shared by those who attach, one at a time.
    pub(super) stdin: Arc<tokio::sync::Mutex<Option<DuplexStream>>>,
    pub(super) end: watch::Receiver<Option<Ending>>,
}

impl Containers {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with what the guests of a pod know of each other, while the pod is open.
    pub(super) fn with_interfaces(&self, pod_uid: &str, act: impl FnOnce(&Interfaces)) {
        let network = self.lock().pods.get(pod_uid).cloned();
        if let Some(interfaces) = network.as_ref().and_then(|network| network.interfaces()) {
            act(interfaces);
        }
    }

    pub(super) fn started(&self, id: &str) -> Result<Started, RuntimeError> {
        match self.lock().containers.get(id).map(|c| &c.stage) {
            Some(Stage::Started(started)) => Ok(started.clone()),
            Some(_) => Err(RuntimeError::NotRunning(id.to_owned())),
            None => Err(RuntimeError::NotFound(id.to_owned())),
        }
    }

    /// Two servers cannot listen on one port of a pod; the second is refused.
    pub(super) fn check_port(&self, launch: &Launch) -> Result<(), RuntimeError> {
        let state = self.lock();
        let other = state.containers.values().find(|c| {
            let over = matches!(&c.stage, Stage::Started(s) if s.end.borrow().is_some());
            c.pod_uid == launch.pod_uid && c.port == Some(launch.port) && c.name != launch.name && !over
        });
        match other {
            None => Ok(()),
            Some(other) => Err(RuntimeError::Create(format!(
                "port {} of the pod is already used by container {:?}: give each wasi:http container a containerPort of its own",
                launch.port, other.name
            ))),
        }
    }
}
