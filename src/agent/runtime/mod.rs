//! What runs containers. Three kinds behind one trait: `oci` (a shim per pod),
//! `wasm` (in this process) and `fake` (nothing at all, for tests and
//! simulated nodes). One suite tests them all.
//!
//! Which one runs a container is found from its image, never demanded in the
//! manifest.

pub mod fake;
pub mod guest;
pub mod oci;
#[cfg(test)]
mod suite;
pub mod wasm;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::oci::{ExecSpec, Found, Image, LogSpec, Process, Resources, Security, Usage, User};
use api::cidr::Addresses;
use async_trait::async_trait;
use jiff::Timestamp;

use crate::volumes::MountPoint;

/// On pods: which container provides an interface that several export, `INTERFACE=CONTAINER`, separated by commas.
pub const PROVIDERS_ANNOTATION: &str = "coracle.dev/wasm-providers";

/// On pods: the only hosts that guests may connect to, in the words of Spin's `allowed_outbound_hosts`, separated by commas.
pub const ALLOWED_HOSTS_ANNOTATION: &str = "coracle.dev/wasm-allowed-hosts";

/// Why a runtime could not do something. The texts end up in front of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The container cannot be made as specified (`CreateContainerError`).
    #[error("{0}")]
    Create(String),
    /// Its program cannot be started (`ContainerCannotRun`).
    #[error("{0}")]
    Start(String),
    /// No such container.
    #[error("container {0:?} not found")]
    NotFound(String),
    /// It does not run.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// Whoever ran its pod's containers is gone, and they with it.
    #[error("{0}")]
    Gone(String),
    /// This runtime cannot do such a thing.
    #[error("{0}")]
    Unsupported(String),
    /// Something else broke.
    #[error("{0}")]
    Other(String),
}

/// What the containers of a pod share.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// UID of the pod.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// Its addresses.
    pub ip: Addresses,
    /// Its network namespace; `None`: the node's shared one, or the host's.
    pub netns: Option<PathBuf>,
    /// The users of its ordinary containers are the machine's from this one on; `None`: they are the machine's.
    pub users: Option<u32>,
    /// What stands for 127.0.0.1 and ::1 among its Wasm containers.
    pub loopback: Addresses,
    /// It uses the node's network.
    pub host_network: bool,
    /// It uses the node's PID namespace.
    pub host_pid: bool,
    /// It uses the node's IPC namespace.
    pub host_ipc: bool,
    /// Its containers share one PID namespace.
    pub share_pid: bool,
    /// Sysctls of its namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Limits of the whole pod.
    pub resources: Resources,
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos: String,
    /// Search domains of its names.
    pub search: Vec<String>,
    /// Names that its hosts file gives.
    pub aliases: Vec<(String, IpAddr)>,
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Bare id: 64 hex digits.
    pub id: String,
    /// UID of the pod; its sandbox is open.
    pub pod_uid: String,
    /// `namespace/pod/container`, for logs.
    pub title: String,
    /// Name in the pod.
    pub name: String,
    /// How often it was started before.
    pub attempt: u32,
    /// The image.
    pub image: Image,
    /// Program and arguments, complete; may be empty for Wasm.
    pub args: Vec<String>,
    /// Environment, image's included.
    pub env: Vec<(String, String)>,
    /// Working directory; empty for the image's.
    pub working_dir: String,
    /// Who it runs as.
    pub user: User,
    /// What it sees of this machine's files.
    pub mounts: Vec<MountPoint>,
    /// Devices of this machine that it was given.
    pub devices: Vec<::oci::Device>,
    /// Programs of this machine to be run for it.
    pub hooks: Vec<::oci::Hook>,
    /// Limits.
    pub resources: Resources,
    /// What it may do.
    pub security: Security,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open.
    pub stdin: bool,
    /// Close that after the first client.
    pub stdin_once: bool,
    /// Its log.
    pub log: LogSpec,
    /// Where a `wasi:http` program listens.
    pub port: u16,
    /// Its TCP ports and their names: where a core module that accepts connections listens.
    pub ports: Vec<(String, u16)>,
    /// A `wasi:http` program answers many requests with one instance.
    pub reuse: bool,
    /// Buckets of `wasi:keyvalue` that its guest may open.
    pub buckets: Option<Arc<dyn ::wasm::Buckets>>,
    /// Other WebAssembly containers of the pod that run beside it, or will soon: what its component imports they may export.
    pub beside: Vec<String>,
    /// Other containers of the pod that cannot be beside it for now, and what is the matter with them.
    pub absent: Vec<(String, String)>,
    /// Interfaces, and which container provides them where several could.
    pub providers: Vec<(String, String)>,
    /// Where its guest may connect to. None: anywhere.
    pub allowed_hosts: Option<::wasm::AllowedHosts>,
    /// Bare id of a running container of the same pod and runtime whose processes it sees.
    pub target: Option<String>,
}

/// New limits of a running container.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// UID of its pod.
    pub pod_uid: &'a str,
    /// What it may use from now on.
    pub container: Resources,
    /// The same of the pod as a whole.
    pub pod: Resources,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Exit code; 128 + signal for a signal.
    pub code: i32,
    /// The signal, 0 for none.
    pub signal: i32,
    /// For lack of memory.
    pub oom_killed: bool,
    /// What the runtime has to say about it, such as a trap's place.
    pub message: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// Runs containers. Ids are bare; [`Runtime::scheme`] comes before them in statuses.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The beginning of container ids in statuses, such as `coracle-oci`.
    fn scheme(&self) -> &'static str;

    /// Prepares for a pod's containers; may be repeated.
    async fn open_pod(&self, sandbox: &Sandbox) -> Result<(), RuntimeError>;

    /// Kills what is left of a pod and forgets it; unknown pods are no error.
    async fn close_pod(&self, uid: &str) -> Result<(), RuntimeError>;

    /// Makes a container ready to start.
    async fn create(&self, launch: &Launch) -> Result<(), RuntimeError>;

    /// What was done for a container when it was made that its users want to know: an event's reason and message. Told
    /// once.
    fn remarks(&self, _id: &str) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Tells the pod's other containers that one of them could not be made or started, and why: who needs it should not
    /// wait for it until it is tried again.
    fn refused(&self, _pod_uid: &str, _name: &str, _why: &str) {}

    /// Starts it; returns once its program runs.
    async fn start(&self, id: &str) -> Result<Timestamp, RuntimeError>;

    /// Asks it to end and kills it after `grace`; returns when it has ended.
    /// Called again with a shorter grace it hurries.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Changes what a running container may use.
    async fn resize(&self, id: &str, change: &Change<'_>) -> Result<(), RuntimeError>;

    /// Has a running container run on these processors from now on. Guests share their threads, so it means nothing
    /// to them.
    async fn pin(&self, _pod_uid: &str, _id: &str, _cpus: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Waits for its end; may be asked any number of times until it is removed.
    async fn wait(&self, id: &str) -> Result<Ending, RuntimeError>;

    /// Forgets an ended container; its log stays.
    async fn remove(&self, id: &str) -> Result<(), RuntimeError>;

    /// Runs a process in a running container.
    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Process, RuntimeError>;

    /// Joins the streams of a running container.
    async fn attach(&self, id: &str, stdin: bool) -> Result<Process, RuntimeError>;

    /// What a container uses.
    async fn usage(&self, id: &str) -> Result<Usage, RuntimeError>;

    /// Containers that outlived an earlier agent.
    async fn found(&self) -> Result<Vec<Found>, RuntimeError>;
}

/// The runtimes of a node.
#[derive(Clone)]
pub struct Runtimes {
    /// For ordinary images.
    pub oci: Arc<dyn Runtime>,
    /// For WebAssembly.
    pub wasm: Arc<dyn Runtime>,
}

impl Runtimes {
    /// The runtime for an image.
    pub fn for_image(&self, image: &Image) -> &Arc<dyn Runtime> {
        if image.kind.is_wasm() {
            &self.wasm
        } else {
            &self.oci
        }
    }

    /// The runtime that a container id names, and the bare id.
    pub fn of_container<'a>(&self, container_id: &'a str) -> Option<(&Arc<dyn Runtime>, &'a str)> {
        let (scheme, id) = container_id.split_once("://")?;
        [&self.oci, &self.wasm]
            .into_iter()
            .find(|r| r.scheme() == scheme)
            .map(|r| (r, id))
    }
}

/// The complete environment of a container: the image's, overridden by the pod's.
pub fn with_image_env(image: &Image, env: &[(String, String)]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = image
        .config
        .env
        .iter()
        .filter_map(|text| text.split_once('='))
        .filter(|(name, _)| !env.iter().any(|(n, _)| n == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.extend_from_slice(env);
    all
}

/// Program and arguments: the pod's `command` replaces entrypoint and default
/// arguments of the image, its `args` the default arguments alone.
pub fn arguments(image: &Image, command: &[String], args: &[String]) -> Vec<String> {
    let config = &image.config;
    let program = if command.is_empty() {
        &config.entrypoint
    } else {
        command
    };
    let rest = match (command.is_empty(), args.is_empty()) {
        (_, false) => args,
        (true, true) => &config.cmd,
        (false, true) => &[],
    };
    program.iter().chain(rest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use ::oci::{ImageConfig, ImageKind};

    use super::*;

    fn image() -> Image {
        let text = |t: &[&str]| t.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let config = ImageConfig {
            entrypoint: text(&["/entry"]),
            cmd: text(&["default"]),
            env: text(&["A=image", "B=image=2", "broken"]),
            ..ImageConfig::default()
        };
        let kind = ImageKind::Oci { layers: Vec::new() };
        Image {
            references: vec![],
            digest: String::new(),
            id: String::new(),
            size_bytes: 0,
            config,
            kind,
            vouchers: vec![],
            pulled_by: Default::default(),
        }
    }

    #[test]
    fn commands_and_arguments() {
        let own = |command: &[&str], args: &[&str]| {
            let text = |t: &[&str]| t.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            arguments(&image(), &text(command), &text(args)).join(" ")
        };
        assert_eq!(own(&[], &[]), "/entry default");
        assert_eq!(own(&[], &["x"]), "/entry x");
        assert_eq!(own(&["/own"], &[]), "/own");
        assert_eq!(own(&["/own"], &["x"]), "/own x");
    }

    #[test]
    fn the_pods_environment_wins() {
        let env = with_image_env(&image(), &[("A".to_owned(), "pod".to_owned())]);
        let pairs: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["B=image=2", "A=pod"]);
    }
}
