//! Processors that containers have for themselves (the kubelet's CPU manager with the policy `static`): a container of
//! a Guaranteed pod that asks for whole ones gets them, and all others share the rest. Guests of WebAssembly run on
//! threads that they share, and get none.
//!
//! What has been given stands in a file, since containers outlive the agent.

mod follow;
mod pool;
mod set;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use set::CpuSet;

use self::pool::{Given, Pool};
use crate::disk;
use crate::paths::Paths;
use crate::pods::{spec, status};

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Default, Serialize, Deserialize)]
struct Record {
    version: u32,
    given: Vec<Given>,
}

/// The node's processors. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cpus {
    /// None: all share all.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    record: PathBuf,
    // A std mutex: nothing awaits while it is held.
    pool: Mutex<Pool>,
    changed: watch::Sender<()>,
}

impl Cpus {
    /// The machine's processors as the file remembers who has some; all but the `reserved` are to be given. Without
    /// any reserved, all share all.
    pub fn open(paths: &Paths, all: CpuSet, reserved: Option<CpuSet>) -> Cpus {
        let Some(reserved) = reserved else {
            return Cpus::default();
        };
        let record: Record = disk::read_json(&paths.cpus()).unwrap_or_default();
        let given = match record.version {
            VERSION => record.given,
            _ => Vec::new(),
        };
        Cpus {
            inner: Some(Arc::new(Inner {
                record: paths.cpus(),
                pool: Mutex::new(Pool::new(all, reserved, given)),
                changed: watch::Sender::new(()),
            })),
        }
    }

    /// Gives all of a pod's containers the processors that they want for themselves, before any of them begins.
    ///
    /// # Errors
    /// When there are too few; none are given then. The text is the kubelet's.
    pub fn admit(&self, pod: &Pod) -> Result<(), String> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let uid = spec::uid(pod);
        for (_, container) in spec::containers(pod) {
            let wanted = wanted(pod, container);
            if wanted == 0 {
                continue;
            }
            let before = spec::ended_before(pod, &container.name);
            let given = inner.lock().give(uid, &container.name, &before, wanted);
            if let Err(why) = given.and_then(|()| inner.keep().map_err(|error| error.to_string())) {
                self.release(uid);
                return Err(format!("Allocate failed due to {why}, which is unexpected"));
            }
        }
        Ok(())
    }

    /// What a container runs on; `None`: on all.
    pub fn of(&self, pod: &Pod, container: &str) -> Option<String> {
        let inner = self.inner.as_ref()?;
        Some(inner.lock().of(spec::uid(pod), container).to_string())
    }

    /// A container needs none for itself after all.
    pub fn give_back(&self, pod: &Pod, container: &str) {
        self.take_back(spec::uid(pod), Some(container));
    }

    /// A pod gives back all it has.
    pub fn release(&self, uid: &str) {
        self.take_back(uid, None);
    }

    fn take_back(&self, uid: &str, container: Option<&str>) {
        let Some(inner) = &self.inner else { return };
        let had = inner.lock().take_back(uid, container);
        if had && let Err(error) = inner.keep() {
            tracing::warn!(uid, %error, "a pod's processors stay taken until the agent's restart");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) -> std::io::Result<()> {
        let record = Record {
            version: VERSION,
            given: self.lock().given().to_vec(),
        };
        self.changed.send_replace(());
        disk::write_json(&self.record, &record, true)
    }
}

/// How many a container wants for itself.
fn wanted(pod: &Pod, container: &Container) -> usize {
    let requests = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref().or(r.limits.as_ref()));
    let cpu = requests.and_then(|list| list.get("cpu")?.0.parse::<Quantity>().ok());
    let whole = cpu.filter(|cpu| cpu.is_whole() && status::qos_class(pod) == "Guaranteed");
    whole
        .and_then(|cpu| usize::try_from(cpu.value()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_whole_ones_of_guaranteed_pods_are_exclusive() {
        let wanted = |cpu: &str, class: &str| {
            let resources =
                json!({"limits": {"cpu": cpu, "memory": "1Mi"}, "requests": {"cpu": cpu, "memory": "1Mi"}});
            let pod = json!({"metadata": {"uid": "u"}, "status": {"qosClass": class},
                "spec": {"containers": [{"name": "c", "resources": resources}]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            super::wanted(&pod, &spec::spec(&pod).containers[0])
        };
        assert_eq!(wanted("2", "Guaranteed"), 2);
        assert_eq!(wanted("2000m", "Guaranteed"), 2);
        assert_eq!((wanted("1500m", "Guaranteed"), wanted("2", "Burstable")), (0, 0));
    }
}
