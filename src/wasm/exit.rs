//! How a guest ended.

use crate::limits::OutOfMemory;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// 128 + SIGABRT: what a shell reports of a program that aborted.
const TRAPPED: i32 = 134;

/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// What container runtimes report of a program that could not be started.
const NOT_STARTED: i32 = 128;

/// Most functions of a trap's backtrace that are named.
const FRAMES_MAX: usize = 4;

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
    /// As a shell would report it: the guest's own code; 134 (128 + SIGABRT)
    /// after a trap; 137 (128 + SIGKILL) after a kill or for lack of memory;
    /// 128 if it could not be brought to life; 0 for a server that was stopped
    /// and had time to finish.
    pub code: i32,
    /// The kind of end.
    pub reason: ExitReason,
    /// For people: names the trap and the place; empty after a plain exit.
    pub message: String,
}

impl Exit {
    /// The guest's own exit code.
    pub(crate) fn with_code(code: i32) -> Exit {
        let reason = if code == 0 {
            ExitReason::Completed
        } else {
            ExitReason::Error
        };
        Exit {
            code,
            reason,
            message: String::new(),
        }
    }

    pub(crate) fn killed() -> Exit {
        Exit {
            code: KILLED,
            reason: ExitReason::Error,
            message: "killed".into(),
        }
    }

    pub(crate) fn not_started(why: impl ToString) -> Exit {
        Exit {
            code: NOT_STARTED,
            reason: ExitReason::Error,
            message: why.to_string(),
        }
    }

    /// What the engine's error says about the end.
    pub(crate) fn from_error(error: &wasmtime::Error) -> Exit {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Exit::with_code(*code);
        }
        if let Some(out) = error.downcast_ref::<OutOfMemory>() {
            return Exit {
                code: KILLED,
                reason: ExitReason::OomKilled,
                message: out.to_string(),
            };
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            let message = format!("{trap}{}", place(error));
            return Exit {
                code: TRAPPED,
                reason: ExitReason::Error,
                message,
            };
        }
        if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
            return Exit::not_started(format!("no room for another wasm instance: {full}"));
        }
        // Errors of host functions end a guest like a trap. Without a
        // backtrace, no guest code was running yet.
        let code = if error.is::<WasmBacktrace>() {
            TRAPPED
        } else {
            NOT_STARTED
        };
        let message = format!("{}{}", error.root_cause(), place(error));
        Exit {
            code,
            reason: ExitReason::Error,
            message,
        }
    }
}

/// Where a trap happened, innermost function first.
fn place(error: &wasmtime::Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let frames = trace.frames().iter().take(FRAMES_MAX);
    let names: Vec<String> = frames
        .map(|frame| match frame.func_name() {
            Some(name) => name.to_string(),
            None => format!("function {}", frame.func_index()),
        })
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" in {}", names.join(" < "))
    }
}
