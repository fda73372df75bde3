//! Wasm containers, in this process.

mod attach;
mod containers;
mod exec;
mod leave;
mod run;
mod spec;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::oci::{ExecSpec, Found, ImageKind, Process, Usage};
use ::wasm::{Host, Program, ProgramKind};
use async_trait::async_trait;
use base::Clock;
use jiff::Timestamp;

use self::containers::{Container, Containers, Prepared, Stage};
use self::spec::told;
use super::guest::{GuestNetwork, NodeNetwork};
use super::{Change, Ending, Launch, Runtime, RuntimeError, Sandbox};
use crate::handover::Inheritance;

/// The beginning of these containers' ids in statuses.
pub const SCHEME: &str = "coracle-wasm";

/// The runtime for WebAssembly.
pub struct WasmRuntime {
    host: Host,
    node: Arc<dyn NodeNetwork>,
    clock: Arc<dyn Clock>,
    /// Sockets that an earlier agent's guests have left.
    inheritance: Arc<Inheritance>,
    /// Whether this agent is about to end: what ends from now on is for the next one to begin again.
    leaving: Arc<AtomicBool>,
    containers: Containers,
}

impl WasmRuntime {
    /// A runtime on that host. `node` answers the guests' questions about the network, `inheritance` is what an
    /// earlier agent's guests have left.
    pub fn new(
        host: Host,
        node: Arc<dyn NodeNetwork>,
        clock: Arc<dyn Clock>,
        inheritance: Arc<Inheritance>,
    ) -> WasmRuntime {
        WasmRuntime {
            host,
            node,
            clock,
            inheritance,
            leaving: Arc::default(),
            containers: Containers::default(),
        }
    }

    /// The programs of a container's image, compiled.
    async fn programs(&self, launch: &Launch) -> Result<Vec<Program>, RuntimeError> {
        let files = match &launch.image.kind {
            ImageKind::Wasm { module, digest } => vec![(digest, module, String::new())],
            ImageKind::App { components } => {
                let files = components.iter();
                files
                    .map(|c| (&c.digest, &c.module, format!("component {:?}: ", c.id)))
                    .collect()
            }
            ImageKind::Oci { .. } => {
                let text = "the image holds no WebAssembly program";
                return Err(RuntimeError::Create(text.to_owned()));
            }
        };
        let mut programs = Vec::new();
        for (digest, module, whose) in files {
            let program = self.host.compile_file(digest, module).await;
            // A program that cannot be compiled never will be: it cannot run, rather than not be made.
            programs.push(program.map_err(|error| RuntimeError::Start(format!("{whose}{error}")))?);
        }
        Ok(programs)
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn open_pod(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        if self.containers.lock().pods.contains_key(&sandbox.uid) {
            return Ok(());
        }
        let open = |path: &std::path::Path| {
            let file = File::open(path).map_err(|e| RuntimeError::Other(format!("{}: {e}", path.display())));
            file.map(OwnedFd::from)
        };
        let netns = match (&sandbox.netns, sandbox.host_network) {
            (Some(path), _) => Some(open(path)?),
            // The agent's own namespace: its threads are not the guests' threads.
            (None, true) => Some(open(std::path::Path::new("/proc/self/ns/net"))?),
            (None, false) => None,
        };
        let network = Arc::new(GuestNetwork::new(sandbox, netns, self.node.clone()));
        self.containers.lock().pods.insert(sandbox.uid.clone(), network);
        Ok(())
    }

    async fn close_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        let mut state = self.containers.lock();
        state.pods.remove(uid);
        state.containers.retain(|_, container| {
            let mine = container.pod_uid == uid;
            if let (true, Stage::Started(started)) = (mine, &container.stage) {
                started.instance.kill();
            }
            !mine
        });
        Ok(())
    }

    fn refused(&self, pod_uid: &str, name: &str, why: &str) {
        self.containers
            .with_interfaces(pod_uid, |interfaces| interfaces.refuse(name, why));
    }

    async fn create(&self, launch: &Launch) -> Result<(), RuntimeError> {
        self.containers
            .with_interfaces(&launch.pod_uid, |interfaces| interfaces.expect(&launch.name));
        let programs = self.programs(launch).await?;
        let remarks = programs.iter().filter_map(compiled).collect();
        let is_http = programs
            .first()
            .is_some_and(|program| program.kind() == ProgramKind::Http);
        let port = is_http.then_some(launch.port);
        if port.is_some() {
            self.containers.check_port(launch)?;
        }
        let mut state = self.containers.lock();
        let network = state.pods.get(&launch.pod_uid).cloned();
        let network =
            network.ok_or_else(|| RuntimeError::Create("the pod's sandbox is not open".to_owned()))?;
        let container = Container {
            pod_uid: launch.pod_uid.clone(),
            name: launch.name.clone(),
            port,
            origin: Arc::new(Prepared {
                programs,
                launch: launch.clone(),
                network,
            }),
            stage: Stage::Created,
            remarks,
        };
        state.containers.insert(launch.id.clone(), container);
        Ok(())
    }

    fn remarks(&self, id: &str) -> Vec<(&'static str, String)> {
        let mut state = self.containers.lock();
        let container = state.containers.get_mut(id);
        container
            .map(|container| std::mem::take(&mut container.remarks))
            .unwrap_or_default()
    }

    async fn start(&self, id: &str) -> Result<Timestamp, RuntimeError> {
        let not_found = || RuntimeError::NotFound(id.to_owned());
        let origin = {
            let mut state = self.containers.lock();
            let container = state.containers.get_mut(id).ok_or_else(not_found)?;
            match std::mem::replace(&mut container.stage, Stage::Starting) {
                Stage::Created => container.origin.clone(),
                other => {
                    container.stage = other;
                    return Err(RuntimeError::Start("it was started before".to_owned()));
                }
            }
        };
        match self.run(&origin).await {
            Ok((started, since)) => {
                let mut state = self.containers.lock();
                // Closed meanwhile: nobody will ever stop it again.
                let Some(container) = state.containers.get_mut(id) else {
                    started.instance.kill();
                    return Err(not_found());
                };
                container.stage = Stage::Started(started);
                Ok(since)
            }
            Err(error) => {
                self.containers.lock().containers.remove(id);
                Err(RuntimeError::Start(told(&error)))
            }
        }
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let mut started = self.containers.started(id)?;
        if grace.is_zero() {
            started.instance.kill();
        } else {
            started.instance.stop(grace);
        }
        let _ = started.end.wait_for(Option::is_some).await;
        Ok(())
    }

    async fn resize(&self, id: &str, change: &Change<'_>) -> Result<(), RuntimeError> {
        let limits = &change.container;
        let cpu = limits.cpu_limit_millis.and_then(|m| u32::try_from(m).ok());
        self.containers
            .started(id)?
            .instance
            .limit(limits.memory_limit_bytes, cpu);
        Ok(())
    }

    async fn wait(&self, id: &str) -> Result<Ending, RuntimeError> {
        let mut started = self.containers.started(id)?;
        let end = started.end.wait_for(Option::is_some).await;
        let end = end.ok().and_then(|end| end.clone());
        end.ok_or_else(|| RuntimeError::Gone("the container's end was not seen".to_owned()))
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let removed = self.containers.lock().containers.remove(id);
        if let Some(Stage::Started(started)) = removed.map(|container| container.stage) {
            started.instance.kill();
        }
        Ok(())
    }

    async fn exec(&self, id: &str, exec: &ExecSpec) -> Result<Process, RuntimeError> {
        self.run_again(id, exec).await
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Process, RuntimeError> {
        self.join_streams(id, stdin)
    }

    async fn usage(&self, id: &str) -> Result<Usage, RuntimeError> {
        let usage = self.containers.started(id)?.instance.usage();
        Ok(Usage {
            cpu_ns: usage.cpu_ns,
            memory_bytes: usage.memory_bytes,
            pids: 1,
        })
    }

    async fn found(&self) -> Result<Vec<Found>, RuntimeError> {
        // Guests end with the process that runs them.
        Ok(Vec::new())
    }
}

/// The remark on a program that was compiled now.
fn compiled(program: &Program) -> Option<(&'static str, String)> {
    let took = api::go::duration_in_milliseconds(program.take_compile_time()?);
    let digest = program.digest();
    Some((
        "Compiled",
        format!("Compiled WebAssembly program {digest} in {took}"),
    ))
}
