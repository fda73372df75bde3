//! What the caller says about an instance: arguments, files, limits.

use crate::keyvalue::Buckets;
use crate::network::Network;
use crate::{AllowedHosts, Membership};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncRead;

/// Everything an instance is given. `InstanceSpec::new` fills the quiet
/// defaults; set the fields that matter.
pub struct InstanceSpec {
    /// For logs and error texts.
    pub name: String,
    /// All arguments, the program's name first.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited from this process.
    pub env: Vec<(String, String)>,
    /// Folders and files the guest may see.
    pub mounts: Vec<Mount>,
    /// Where standard input comes from. Handlers of `wasi:http` have none.
    pub stdin: Stdin,
    /// Where standard output goes.
    pub stdout: Arc<dyn Output>,
    /// Where standard error goes.
    pub stderr: Arc<dyn Output>,
    /// Addresses, names and rules for the guest's sockets.
    pub network: Arc<dyn Network>,
    /// Most linear memory and tables together, in bytes; beyond it the guest
    /// ends as `OOMKilled`. None: the host's own limit per memory.
    pub memory_bytes_max: Option<u64>,
    /// Thousandths of one core the guest may use on average. None: unlimited.
    pub cpu_millis_max: Option<u32>,
    /// `wasi:http` programs: where to listen. Required for them, ignored for
    /// others. Port 0 picks a free one, see [`crate::Instance::http_address`].
    pub http_address: Option<SocketAddr>,
    /// Core modules that accept connections: where, each at a descriptor of
    /// its own from 3 on, in this order. Ignored for others.
    pub listen: Vec<ListenAt>,
    /// Sockets that listen already, left by an earlier process: those at the addresses at which it listens, or which
    /// the guest binds, are used in place of new ones.
    pub inherited: Vec<TcpListener>,
    /// `wasi:http` programs: answer many requests with one instance instead of
    /// making a fresh one for each.
    pub reuse: bool,
    /// Where it may connect to. None: wherever its network lets it.
    pub allowed_hosts: Option<AllowedHosts>,
    /// Buckets of `wasi:keyvalue` that it may open. None: there are none.
    pub buckets: Option<Arc<dyn Buckets>>,
    /// What it is to the other programs of its network. None: it imports nothing of theirs, nor exports anything to them.
    pub membership: Option<Membership>,
}

impl InstanceSpec {
    /// No arguments, environment, mounts, input or limits; output discarded.
    pub fn new(name: impl Into<String>, network: Arc<dyn Network>) -> InstanceSpec {
        InstanceSpec {
            name: name.into(),
            args: Vec::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            stdin: Stdin::None,
            stdout: discard(),
            stderr: discard(),
            network,
            memory_bytes_max: None,
            cpu_millis_max: None,
            http_address: None,
            listen: Vec::new(),
            inherited: Vec::new(),
            reuse: false,
            allowed_hosts: None,
            buckets: None,
            membership: None,
        }
    }
}

/// A listening socket that a core module is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAt {
    /// How the module knows it (`LISTEN_FDNAMES`).
    pub name: String,
    /// Where it listens; at an address of the pod's, in both its families.
    pub address: SocketAddr,
}

/// A folder or a single file of this machine shown to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on this machine; it must exist when the instance starts.
    pub host: PathBuf,
    /// What of it is meant: a path below it, which others may have changed and which may not lead out; empty for all.
    pub inside: PathBuf,
    /// Absolute path the guest sees.
    pub guest: String,
    /// Refuse every change.
    pub read_only: bool,
}

/// Standard input of a guest.
#[derive(Default)]
pub enum Stdin {
    /// At its end from the beginning.
    #[default]
    None,
    /// Bytes from a stream, end of file when the stream ends.
    Pipe(Box<dyn AsyncRead + Send + Sync + Unpin>),
}

/// Takes what a guest prints. Called from the guest's thread with whatever
/// pieces the guest writes (not lines); it must not block for long.
pub trait Output: Send + Sync {
    /// Takes the next bytes, in order.
    fn write(&self, bytes: &[u8]);
}

/// An output that forgets everything.
pub fn discard() -> Arc<dyn Output> {
    struct Discard;
    impl Output for Discard {
        fn write(&self, _: &[u8]) {}
    }
    Arc::new(Discard)
}

/// Collects what a guest prints; for tests and short programs.
#[derive(Default)]
pub struct MemoryOutput(Mutex<Vec<u8>>);

impl MemoryOutput {
    /// Everything so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(|e| e.into_inner())).into_owned()
    }
}

impl Output for MemoryOutput {
    fn write(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .extend_from_slice(bytes);
    }
}

/// A fresh [`MemoryOutput`].
pub fn memory_output() -> Arc<MemoryOutput> {
    Arc::default()
}
