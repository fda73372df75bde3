//! Wasm containers, in this process.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::oci::{ExecSpec, Found, ImageKind, Process, Stream, Usage};
use ::wasm::{ExitReason, Host, Instance, Program, ProgramKind, Stdin, WasmError};
use async_trait::async_trait;
use base::Clock;
use jiff::Timestamp;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::guest::{GuestNetwork, NodeNetwork};
use super::wasm_exec;
use super::wasm_spec::{app_part, instance_spec, told};
use super::{Change, Ending, Launch, Runtime, RuntimeError, Sandbox};
use crate::handover::{Inheritance, Legacy, Owner};
use crate::logs::writer::LogWriter;

/// The beginning of these containers' ids in statuses.
pub const SCHEME: &str = "coracle-wasm";

/// What stands in the log of a core module that could accept connections, but is given no socket.
const NOTHING_TO_ACCEPT: &str = "the program can accept connections (sock_accept), but its container names no TCP port \
     under `ports`: it gets no listening socket\n";

const STDIN_BUFFER_BYTES: usize = 64 * 1024;

/// The runtime for WebAssembly.
pub struct WasmRuntime {
    host: Host,
    node: Arc<dyn NodeNetwork>,
    clock: Arc<dyn Clock>,
    /// Sockets that an earlier agent's guests have left.
    inheritance: Arc<Inheritance>,
    /// Whether this agent is about to end: what ends from now on is for the next one to begin again.
    leaving: Arc<AtomicBool>,
    // A std mutex: nothing awaits while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, Arc<GuestNetwork>>,
    containers: HashMap<String, Container>,
}

struct Container {
    pod_uid: String,
    name: String,
    /// What it is made from, for runs of its program beside the first.
    origin: Arc<Prepared>,
    /// Where its `wasi:http` program listens.
    port: Option<u16>,
    stage: Stage,
}

impl Container {
    fn owner(&self) -> Owner {
        Owner {
            pod: self.pod_uid.clone(),
            container: self.name.clone(),
        }
    }
}

enum Stage {
    Created,
    Starting,
    Started(Started),
}

struct Prepared {
    programs: Vec<Program>,
    launch: Launch,
    network: Arc<GuestNetwork>,
}

#[derive(Clone)]
struct Started {
    instance: Instance,
    log: Arc<LogWriter>,
    /// Shared by those who attach, one at a time.
    stdin: Arc<tokio::sync::Mutex<Option<DuplexStream>>>,
    end: watch::Receiver<Option<Ending>>,
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
            state: Mutex::default(),
        }
    }

    /// Ends the guests that serve somebody, gives what they have begun that long, and returns the sockets on which they
    /// listened. Nobody hears of these ends.
    pub async fn leave(&self, grace: Duration) -> Legacy {
        self.leaving.store(true, Ordering::SeqCst);
        let running: Vec<(Owner, Instance)> = {
            let state = self.lock();
            let started = state
                .containers
                .values()
                .filter_map(|container| match &container.stage {
                    Stage::Started(started) => Some((container.owner(), started.instance.clone())),
                    _ => None,
                });
            started.collect()
        };
        let (mut legacy, mut serving) = (Legacy::new(), Vec::new());
        for (owner, instance) in running {
            match instance.sockets() {
                // It serves nobody, and ends with the process.
                Ok(sockets) if sockets.is_empty() => continue,
                Ok(sockets) => legacy.push((owner, sockets)),
                Err(error) => {
                    tracing::warn!(pod = owner.pod, %error, "a guest's sockets are not handed over")
                }
            }
            instance.stop(grace);
            serving.push(instance);
        }
        for instance in &serving {
            instance.wait().await;
        }
        legacy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, id: &str) -> Result<Started, RuntimeError> {
        match self.lock().containers.get(id).map(|c| &c.stage) {
            Some(Stage::Started(started)) => Ok(started.clone()),
            Some(_) => Err(RuntimeError::NotRunning(id.to_owned())),
            None => Err(RuntimeError::NotFound(id.to_owned())),
        }
    }

    /// Two servers cannot listen on one port of a pod; the second is refused.
    fn check_port(&self, launch: &Launch) -> Result<(), RuntimeError> {
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

    async fn run(&self, origin: &Prepared) -> Result<(Started, Timestamp), WasmError> {
        let Prepared {
            programs,
            launch,
            network,
        } = origin;
        let log = LogWriter::open(&launch.log, self.clock.clone());
        let log = Arc::new(log.map_err(|source| WasmError::Io {
            context: "opening the log".into(),
            source,
        })?);
        let (stdin, near) = match launch.stdin {
            true => {
                let (near, far) = tokio::io::duplex(STDIN_BUFFER_BYTES);
                (Stdin::Pipe(Box::new(far)), Some(near))
            }
            false => (Stdin::None, None),
        };
        let owner = Owner {
            pod: launch.pod_uid.clone(),
            container: launch.name.clone(),
        };
        let instance = match (&launch.image.kind, programs.as_slice()) {
            (ImageKind::App { components }, programs) => {
                let parts = components.iter().zip(programs);
                let parts =
                    parts.map(|(part, program)| app_part(part, program, launch, network.clone(), &log));
                let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
                if let Some(first) = parts.first_mut() {
                    first.spec.inherited = self.inheritance.take(&owner);
                }
                self.host.start_app(parts).await?
            }
            (_, [program, ..]) => {
                let mut spec = instance_spec(program, launch, network.clone(), &log, stdin);
                spec.inherited = self.inheritance.take(&owner);
                if program.accepts() && spec.listen.is_empty() {
                    log.write(Stream::Stderr, NOTHING_TO_ACCEPT.as_bytes());
                }
                self.host.start(program, spec).await?
            }
            (_, []) => return Err(WasmError::Spec("the image holds no program".into())),
        };
        let started = self.clock.now();
        let end = self.watch_end(&instance, &log, started);
        Ok((
            Started {
                instance,
                log,
                stdin: Arc::new(tokio::sync::Mutex::new(near)),
                end,
            },
            started,
        ))
    }

    fn watch_end(
        &self,
        instance: &Instance,
        log: &Arc<LogWriter>,
        started: Timestamp,
    ) -> watch::Receiver<Option<Ending>> {
        let (sender, receiver) = watch::channel(None);
        let (instance, log, clock) = (instance.clone(), log.clone(), self.clock.clone());
        let leaving = self.leaving.clone();
        tokio::spawn(async move {
            let exit = instance.wait().await;
            log.finish();
            if leaving.load(Ordering::SeqCst) {
                // Until the process ends: it is not the program that has come to its end.
                std::future::pending::<()>().await;
            }
            let ending = Ending {
                code: exit.code,
                signal: 0,
                oom_killed: exit.reason == ExitReason::OomKilled,
                message: exit.message,
                started,
                finished: clock.now(),
            };
            sender.send_replace(Some(ending));
        });
        receiver
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn open_pod(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        if self.lock().pods.contains_key(&sandbox.uid) {
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
        self.lock().pods.insert(sandbox.uid.clone(), network);
        Ok(())
    }

    async fn close_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        let mut state = self.lock();
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

    async fn create(&self, launch: &Launch) -> Result<(), RuntimeError> {
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
        let is_http = programs
            .first()
            .is_some_and(|program| program.kind() == ProgramKind::Http);
        let port = is_http.then_some(launch.port);
        if port.is_some() {
            self.check_port(launch)?;
        }
        let mut state = self.lock();
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
        };
        state.containers.insert(launch.id.clone(), container);
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<Timestamp, RuntimeError> {
        let not_found = || RuntimeError::NotFound(id.to_owned());
        let origin = {
            let mut state = self.lock();
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
                let mut state = self.lock();
                // Closed meanwhile: nobody will ever stop it again.
                let Some(container) = state.containers.get_mut(id) else {
                    started.instance.kill();
                    return Err(not_found());
                };
                container.stage = Stage::Started(started);
                Ok(since)
            }
            Err(error) => {
                self.lock().containers.remove(id);
                Err(RuntimeError::Start(told(&error)))
            }
        }
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let mut started = self.started(id)?;
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
        self.started(id)?.instance.limit(limits.memory_limit_bytes, cpu);
        Ok(())
    }

    async fn wait(&self, id: &str) -> Result<Ending, RuntimeError> {
        let mut started = self.started(id)?;
        let end = started.end.wait_for(Option::is_some).await;
        let end = end.ok().and_then(|end| end.clone());
        end.ok_or_else(|| RuntimeError::Gone("the container's end was not seen".to_owned()))
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let removed = self.lock().containers.remove(id);
        if let Some(Stage::Started(started)) = removed.map(|container| container.stage) {
            started.instance.kill();
        }
        Ok(())
    }

    async fn exec(&self, id: &str, exec: &ExecSpec) -> Result<Process, RuntimeError> {
        let started = self.started(id)?;
        let origin = self.lock().containers.get(id).map(|c| c.origin.clone());
        let origin = origin.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?;
        let args = wasm_exec::arguments(&origin.launch, &exec.args)?;
        let program = match origin.programs.as_slice() {
            [program] if matches!(program.kind(), ProgramKind::Module | ProgramKind::Command) => program,
            [program] if program.kind() == ProgramKind::Library => {
                let text =
                    "the container's program is called by others of its pod and cannot be run as a command";
                return Err(RuntimeError::Unsupported(text.to_owned()));
            }
            _ => {
                let text = "the container's program answers HTTP and cannot be run as a command";
                return Err(RuntimeError::Unsupported(text.to_owned()));
            }
        };
        let (far, near) = wasm_exec::streams(exec);
        let network = origin.network.clone();
        let mut spec = instance_spec(program, &origin.launch, network, &started.log, far.stdin);
        (spec.args, spec.stdout, spec.stderr) = (args, far.stdout, far.stderr);
        // The container's own run listens there.
        spec.listen.clear();
        // And it is the container's own run that others call.
        spec.membership
            .iter_mut()
            .for_each(|member| member.provides = false);
        let instance = self.host.start(program, spec).await;
        Ok(near.join(instance.map_err(|error| RuntimeError::Start(told(&error)))?))
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Process, RuntimeError> {
        let mut started = self.started(id)?;
        let output = started.log.attach();
        let (exit_sender, exit) = oneshot::channel();
        let (resize, _) = mpsc::channel(1);
        tokio::spawn(async move {
            let end = started.end.wait_for(Option::is_some).await;
            let code = end.ok().and_then(|end| end.as_ref().map(|e| e.code)).unwrap_or(0);
            let _ = exit_sender.send(Ok(code));
        });
        let once = self
            .lock()
            .containers
            .get(id)
            .is_some_and(|c| c.origin.launch.stdin_once);
        let input = match stdin {
            true => Some(feed(self.started(id)?.stdin, once)),
            false => None,
        };
        Ok(Process {
            stdin: input,
            output,
            resize,
            exit,
        })
    }

    async fn usage(&self, id: &str) -> Result<Usage, RuntimeError> {
        let usage = self.started(id)?.instance.usage();
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

/// A channel into a guest's standard input; if that is for one client only, it ends when the channel's sender goes.
fn feed(stdin: Arc<tokio::sync::Mutex<Option<DuplexStream>>>, once: bool) -> mpsc::Sender<bytes::Bytes> {
    let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(16);
    tokio::spawn(async move {
        let mut stdin = stdin.lock().await;
        while let Some(bytes) = receiver.recv().await {
            let Some(pipe) = stdin.as_mut() else { return };
            if pipe.write_all(&bytes).await.is_err() {
                *stdin = None;
            }
        }
        if once {
            *stdin = None;
        }
    });
    sender
}
