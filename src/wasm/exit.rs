//! How a guest ended, and what it has used.

/// Why an instance is no longer running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It returned or exited with code 0.
    Completed,
    /// It exited with another code, trapped or was killed.
    Error,
    /// It asked for more memory than it may have.
    OomKilled,
}

impl ExitReason {
    /// The word Kubernetes uses for it: `Completed`, `Error` or `OOMKilled`.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
        }
    }
}

/// The end of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// As a shell would report it: the guest's own code, 134 (128 + SIGABRT)
    /// after a trap, 137 (128 + SIGKILL) after a kill or for lack of memory,
    /// 143 (128 + SIGTERM) for a server that was stopped and drained cleanly
    /// is *not* used: that is 0.
    pub code: i32,
    /// The kind of end.
    pub reason: ExitReason,
    /// For people: names the trap and the place; empty after a plain exit.
    pub message: String,
}

/// Counters of a running or ended instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time spent in the guest and in host calls on its behalf, in nanoseconds.
    pub cpu_ns: u64,
    /// Linear memory and tables held at this moment, in bytes.
    pub memory_bytes: u64,
    /// The most that `memory_bytes` has been.
    pub memory_bytes_peak: u64,
    /// HTTP requests answered (only for `wasi:http` programs).
    pub requests: u64,
}
