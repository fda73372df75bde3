//! What is said about pods, containers and processes, between the agent and the shim.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::images::Image;

/// Why something could not be done with a container. The texts end up in pod
/// events and container statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OciError {
    /// The specification cannot be met (`CreateContainerError`).
    #[error("{0}")]
    Create(String),
    /// The program cannot be started, such as a missing executable
    /// (`StartError`, exit code 128; `ContainerCannotRun`).
    #[error("{0}")]
    Start(String),
    /// No such container, or the shim is gone.
    #[error("container {0:?} not found")]
    NotFound(String),
    /// The container is not running.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// The shim does not answer.
    #[error("shim: {0}")]
    Shim(String),
    /// This machine refused.
    #[error("{context}: {reason}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's reason.
        reason: String,
    },
}

/// Settings.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Where bundles, upper layers, sockets and exit records live, `<data-dir>/containers`.
    pub dir: PathBuf,
    /// Prefix of every kernel object (cgroup, socket), 8 hex digits.
    pub instance_id: String,
    /// The program that runs `shim_main` when called as `PROGRAM shim …`; usually this one.
    pub program: PathBuf,
}

/// What containers of a pod share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    /// UID of the pod: the key of everything.
    pub uid: String,
    /// Namespace, for messages.
    pub namespace: String,
    /// Name, for messages.
    pub name: String,
    /// Host name in the pod's UTS namespace.
    pub hostname: String,
    /// The pod's network namespace; `None` for the host's.
    pub netns: Option<PathBuf>,
    /// The pod's users are the machine's from this one on: its network namespace belongs to a user namespace of
    /// theirs. `None`: they are the machine's.
    pub users: Option<u32>,
    /// Use the host's PID namespace.
    pub host_pid: bool,
    /// Use the host's IPC namespace.
    pub host_ipc: bool,
    /// One PID namespace for all of the pod's containers.
    pub share_pid: bool,
    /// Sysctls of the pod's namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Limits of the whole pod's cgroup.
    pub resources: Resources,
    /// `Guaranteed`, `Burstable` or `BestEffort`: decides the OOM score and the cgroup's parent.
    pub qos: String,
}

/// Limits of a cgroup; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Thousandths of a core requested: the weight under contention.
    pub cpu_request_millis: Option<u64>,
    /// Most thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// Bytes requested: lowers the OOM score as Kubernetes does.
    pub memory_request_bytes: Option<u64>,
    /// Most bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Most bytes in huge pages, by the size of a page in bytes; none of those that are not named.
    pub huge_pages: BTreeMap<u64, u64>,
    /// The processors that it runs on, as the kernel writes them (`0-2,7`).
    pub cpus: Option<String>,
    /// Most processes.
    pub pids_limit: Option<u64>,
}

impl Resources {
    /// The weight for what was requested: 1024 for a core, the least for nothing.
    pub(crate) fn cpu_shares(&self) -> u64 {
        self.cpu_request_millis
            .map_or(2, |millis| (millis * 1024 / 1000).max(2))
    }
}

/// Who a process runs as; what is `None` comes from the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Further groups, added to those the image's `/etc/group` gives.
    pub groups: Vec<u32>,
    /// The image's `/etc/group` gives none.
    pub only_given_groups: bool,
    /// Refuse to run as uid 0 (`CreateContainerConfigError`'s text comes from the agent where it can know).
    pub must_not_be_root: bool,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no masks, no seccomp.
    pub privileged: bool,
    /// Capabilities beyond the default set (`NET_ADMIN`, or `ALL`).
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from the default set (or `ALL`).
    pub drop_capabilities: Vec<String>,
    /// Root file system mounted read-only.
    pub read_only_root: bool,
    /// Set no-new-privileges.
    pub no_new_privileges: bool,
    /// `RuntimeDefault`, `Unconfined` or the path of a profile.
    pub seccomp: String,
    /// Name of an AppArmor profile that the kernel has loaded; empty for none.
    pub apparmor: String,
    /// No profile is named: the agent names the node's own, where there is one.
    pub apparmor_default: bool,
    /// `Default` (masked) or `Unmasked` /proc.
    pub proc_mount: String,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on this machine: a folder, file, socket or device.
    pub host: PathBuf,
    /// What of it is meant: a path below it, which containers may have changed and which may not lead out; empty
    /// for all.
    #[serde(default)]
    pub inside: PathBuf,
    /// Path in the container.
    pub path: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Refuse them in what is mounted below it, too.
    #[serde(default)]
    pub recursive: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: String,
}

/// A device of this machine in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its file on this machine.
    pub host: PathBuf,
    /// Its file in the container.
    pub path: String,
    /// What the container may do with it: `r`, `w`, `m` (make).
    pub permissions: String,
}

/// When a hook runs, as the runtime specification names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// Before the container is confined; as `CreateRuntime`.
    Prestart,
    /// With its namespaces made, on the machine's side.
    CreateRuntime,
    /// The same, inside its namespaces and before its root file system is entered.
    CreateContainer,
    /// Right before its program.
    StartContainer,
    /// Right after its program has begun.
    Poststart,
    /// After its end.
    Poststop,
}

impl Moment {
    /// The moment of that name.
    pub fn of(name: &str) -> Option<Moment> {
        serde_json::from_value(name.into()).ok()
    }
}

/// A program that is run for a container at some moment of its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When.
    pub moment: Moment,
    /// The program; before `StartContainer` it is the machine's.
    pub path: PathBuf,
    /// All arguments, the program's name first.
    pub args: Vec<String>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<String>,
    /// How long it may take; `None` for any time.
    pub timeout_seconds: Option<i64>,
}

/// Where the shim writes what the container prints, in CRI format
/// (`2006-01-02T15:04:05.000000000Z stdout F text`; `P` for a partial line).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogSpec {
    /// The file; rotated files are `PATH.1` (youngest), `PATH.2` …
    pub path: PathBuf,
    /// Size at which it is rotated, by renaming; 0 for never.
    pub bytes_max: u64,
    /// How many files are kept, the current one included.
    pub files_max: u32,
}

/// A container to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The pod's UID; its shim is open.
    pub pod_uid: String,
    /// Chosen by the caller: 64 hex digits, unique on this machine.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    pub attempt: u32,
    /// The image; its kind is [`crate::ImageKind::Oci`].
    pub image: Image,
    /// Program and arguments, complete.
    pub args: Vec<String>,
    /// Environment, complete but for `PATH`, `HOME` and `HOSTNAME` defaults.
    pub env: Vec<(String, String)>,
    /// Working directory; empty for the image's.
    pub working_dir: String,
    /// Who it runs as.
    pub user: User,
    /// Bind mounts, in the order in which they are to be made.
    pub mounts: Vec<Mount>,
    /// Devices beyond those that every container has.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Programs to be run for it.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Limits.
    pub resources: Resources,
    /// What it may do.
    pub security: Security,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open for attaching.
    pub stdin: bool,
    /// Close its standard input after the first attached client leaves.
    pub stdin_once: bool,
    /// Its log.
    pub log: LogSpec,
    /// Id of a running container of the pod whose PID namespace it joins.
    #[serde(default)]
    pub target: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal for a signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for lack of memory.
    pub oom_killed: bool,
    /// When it started.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub finished: jiff::Timestamp,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Created, not started.
    Created,
    /// Running since then.
    Running {
        /// Since when.
        started: jiff::Timestamp,
    },
    /// Ended.
    Exited(Exit),
}

/// A container found after a restart of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// UID of its pod.
    pub pod_uid: String,
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    pub attempt: u32,
    /// What it is doing.
    pub state: ContainerState,
}

/// A process to run inside a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Give it a terminal (standard error is merged into standard output).
    pub tty: bool,
    /// It has a standard input.
    pub stdin: bool,
}

/// Which output a chunk came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes that a process wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where to.
    pub stream: Stream,
    /// What.
    pub bytes: Bytes,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The near end of a process (exec) or of a container's main process (attach).
pub struct Process {
    /// Its standard input; dropping it closes that. `None` when it has none.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// What it prints; ends when it has closed its outputs.
    pub output: mpsc::Receiver<Chunk>,
    /// New sizes for its terminal.
    pub resize: mpsc::Sender<WindowSize>,
    /// Its exit code. Dropping the [`Process`] before this kills an exec'd
    /// process and merely detaches from a container's.
    pub exit: oneshot::Receiver<Result<i32, OciError>>,
}

/// What a container or pod uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory without page cache that could be dropped, in bytes.
    pub memory_bytes: u64,
    /// Processes.
    pub pids: u64,
}
