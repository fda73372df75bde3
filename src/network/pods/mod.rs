//! Pods' namespaces, links and addresses.
//!
//! Pods with an OCI container have a network namespace each, with a routed
//! link to the host. Pods of Wasm containers only live together in one shared
//! namespace in which every address of the node's range is local, so that
//! connecting such a pod costs no kernel object at all.

mod host;
mod journal;
mod link;
mod rules;
mod shared;
mod wire;

pub use link::{PodLink, PodNetKind};
pub(crate) use wire::soft_set;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{NetworkConfig, NetworkError};
use crate::names;
use crate::peers::Peer;
use host::Host;

/// How often to look, when nothing else happens, whether somebody has flushed
/// our rules or routes, and which networks the machine is on.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The network of this node's pods. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    jobs: mpsc::Sender<Job>,
    shared_netns: Arc<Path>,
    config: Arc<NetworkConfig>,
}

/// Runs on the network thread; `None` after a teardown.
type Job = Box<dyn FnOnce(&mut Option<Host>) + Send>;

impl PodNetwork {
    /// Prepares the host: shared namespace and its link, routes, settings,
    /// masquerading. Takes over what a killed predecessor left.
    ///
    /// Everything is made in the network and mount namespaces of the thread
    /// that calls this.
    pub async fn open(config: NetworkConfig) -> Result<PodNetwork, NetworkError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, result) = oneshot::channel();
        let shared_netns = names::shared_netns(&config.instance_id, &config.data_dir);
        let kept = Arc::new(config.clone());
        // A thread of its own, because it visits namespaces: a pool's thread
        // that failed to come back would spoil unrelated work.
        let thread = std::thread::Builder::new().name("pod-network".into());
        thread.spawn(move || match Host::open(config) {
            Ok(host) => {
                let _ = opened.send(Ok(()));
                work(host, queue);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        })?;
        result.await.map_err(|_| NetworkError::Closed)??;
        Ok(PodNetwork {
            jobs,
            shared_netns: shared_netns.into(),
            config: kept,
        })
    }

    /// Connects a pod. Idempotent per `pod_uid`: the same pod keeps its
    /// address, also when the process was restarted meanwhile. `wanted` is
    /// given to a pod that is not known yet if nobody has it and it is within
    /// the node's range; compare it with what comes back.
    pub async fn attach(
        &self,
        pod_uid: &str,
        kind: PodNetKind,
        wanted: Option<IpAddr>,
    ) -> Result<PodLink, NetworkError> {
        let pod = pod_uid.to_string();
        let wanted = wanted.and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        self.run(move |host| host.attach(&pod, kind, wanted)).await
    }

    /// Makes the namespace of a pod that has users of its own, to be connected next: it belongs to a user
    /// namespace of the machine's ids from `first` on. Does nothing if it is there.
    pub async fn prepare(&self, pod_uid: &str, first: u32) -> Result<(), NetworkError> {
        let pod = pod_uid.to_string();
        self.run(move |host| host.prepare(&pod, first)).await
    }

    /// Disconnects a pod and frees its address. Unknown pods are not an error.
    pub async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        let pod = pod_uid.to_string();
        self.run(move |host| host.detach(&pod)).await
    }

    /// The uids of all connected pods, for finding those that ended while the
    /// process was away.
    pub async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        self.run(|host| Ok(host.attached())).await
    }

    /// Leads the way to other nodes' pods; those left out are led to no more.
    pub async fn connect(&self, peers: Vec<Peer>) -> Result<(), NetworkError> {
        self.run(move |host| host.connect(peers)).await
    }

    /// Where the shared namespace is mounted; `sys::netns::enter` it.
    pub fn shared_netns(&self) -> &Path {
        &self.shared_netns
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Removes every pod's connection, the shared namespace and all else that
    /// was made on the host, like [`crate::cleanup()`]. Nothing can be attached
    /// afterwards.
    pub async fn teardown_all(&self) -> Result<(), NetworkError> {
        let config = self.config.clone();
        self.submit(move |host| {
            *host = None;
            crate::cleanup(&config.instance_id, &config.data_dir)
        })
        .await
    }

    async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Host) -> Result<R, NetworkError> + Send + 'static,
    ) -> Result<R, NetworkError> {
        self.submit(move |host| job(host.as_mut().ok_or(NetworkError::Closed)?))
            .await
    }

    async fn submit<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Option<Host>) -> Result<R, NetworkError> + Send + 'static,
    ) -> Result<R, NetworkError> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |host| {
            // Nobody waits any more: the work is done all the same.
            let _ = done.send(job(host));
        });
        self.jobs.send(job).map_err(|_| NetworkError::Closed)?;
        result.await.map_err(|_| NetworkError::Closed)?
    }
}

/// Until the last [`PodNetwork`] is gone.
fn work(host: Host, queue: mpsc::Receiver<Job>) {
    let mut host = Some(host);
    loop {
        match queue.recv_timeout(CHECK_INTERVAL) {
            Ok(job) => job(&mut host),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(Err(error)) = host.as_mut().map(Host::check) {
                    tracing::error!(%error, "cannot restore the pods' rules and routes");
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}
