//! Ordinary containers, through the shims of the `oci` crate.

use std::time::Duration;

use ::oci::{ContainerSpec, Containers, ExecSpec, Found, Mount, OciError, PodSpec, Process, Usage};
use async_trait::async_trait;
use jiff::Timestamp;

use super::{Change, Ending, Launch, Runtime, RuntimeError, Sandbox};

/// The beginning of these containers' ids in statuses.
pub const SCHEME: &str = "coracle-oci";

/// The runtime for ordinary images.
pub struct OciRuntime {
    containers: Containers,
}

impl OciRuntime {
    /// A runtime over these containers.
    pub fn new(containers: Containers) -> OciRuntime {
        OciRuntime { containers }
    }
}

impl From<OciError> for RuntimeError {
    fn from(error: OciError) -> RuntimeError {
        match error {
            OciError::Create(text) => RuntimeError::Create(text),
            OciError::Start(text) => RuntimeError::Start(text),
            OciError::NotFound(id) => RuntimeError::NotFound(id),
            OciError::NotRunning(id) => RuntimeError::NotRunning(id),
            error @ OciError::Shim(_) => RuntimeError::Gone(error.to_string()),
            other => RuntimeError::Other(other.to_string()),
        }
    }
}

#[async_trait]
impl Runtime for OciRuntime {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn open_pod(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        let spec = PodSpec {
            uid: sandbox.uid.clone(),
            namespace: sandbox.namespace.clone(),
            name: sandbox.name.clone(),
            hostname: sandbox.hostname.clone(),
            netns: sandbox.netns.clone(),
            users: sandbox.users,
            host_pid: sandbox.host_pid,
            host_ipc: sandbox.host_ipc,
            share_pid: sandbox.share_pid,
            sysctls: sandbox.sysctls.clone(),
            resources: sandbox.resources.clone(),
            qos: sandbox.qos.clone(),
        };
        Ok(self.containers.open_pod(&spec).await?)
    }

    async fn close_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        Ok(self.containers.close_pod(uid).await?)
    }

    async fn create(&self, launch: &Launch) -> Result<(), RuntimeError> {
        let mounts = launch.mounts.iter().map(|mount| Mount {
            host: mount.host.clone(),
            inside: mount.inside.clone(),
            path: mount.path.clone(),
            read_only: mount.read_only,
            recursive: mount.recursive,
            propagation: mount.propagation.clone(),
        });
        let spec = ContainerSpec {
            pod_uid: launch.pod_uid.clone(),
            id: launch.id.clone(),
            name: launch.name.clone(),
            attempt: launch.attempt,
            image: launch.image.clone(),
            args: launch.args.clone(),
            env: launch.env.clone(),
            working_dir: launch.working_dir.clone(),
            user: launch.user.clone(),
            mounts: mounts.collect(),
            devices: launch.devices.clone(),
            hooks: launch.hooks.clone(),
            resources: launch.resources.clone(),
            security: launch.security.clone(),
            tty: launch.tty,
            stdin: launch.stdin,
            stdin_once: launch.stdin_once,
            log: launch.log.clone(),
            target: launch.target.clone(),
        };
        Ok(self.containers.create(&spec).await?)
    }

    async fn start(&self, id: &str) -> Result<Timestamp, RuntimeError> {
        Ok(self.containers.start(id).await?)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        Ok(self.containers.stop(id, grace).await?)
    }

    async fn resize(&self, id: &str, change: &Change<'_>) -> Result<(), RuntimeError> {
        Ok(self
            .containers
            .resize(change.pod_uid, &change.pod, id, &change.container)?)
    }

    async fn pin(&self, pod_uid: &str, id: &str, cpus: &str) -> Result<(), RuntimeError> {
        Ok(self.containers.pin(pod_uid, id, cpus)?)
    }

    async fn wait(&self, id: &str) -> Result<Ending, RuntimeError> {
        let exit = self.containers.wait(id).await?;
        Ok(ending(&exit))
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        Ok(self.containers.remove(id).await?)
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Process, RuntimeError> {
        Ok(self.containers.exec(id, spec).await?)
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Process, RuntimeError> {
        Ok(self.containers.attach(id, stdin).await?)
    }

    async fn usage(&self, id: &str) -> Result<Usage, RuntimeError> {
        Ok(self.containers.usage(id).await?)
    }

    async fn found(&self) -> Result<Vec<Found>, RuntimeError> {
        Ok(self.containers.list().await?)
    }
}

/// The shim's record of an end in this crate's terms.
pub fn ending(exit: &::oci::Exit) -> Ending {
    Ending {
        code: exit.code,
        signal: exit.signal.unwrap_or(0),
        oom_killed: exit.oom_killed,
        message: String::new(),
        started: exit.started,
        finished: exit.finished,
    }
}
