//! What can go wrong before a guest runs.

use crate::Absent;
use std::net::SocketAddr;

/// Why a program could not be compiled or started. The texts end up in front
/// of users (events, container status), so each says what to do about it where
/// that is known.
#[derive(Debug, thiserror::Error)]
pub enum WasmError {
    /// The bytes are not a usable WebAssembly program.
    #[error("invalid wasm program: {0}")]
    Invalid(String),
    /// The program is well formed but needs something this host does not offer.
    #[error("unsupported wasm program: {0}")]
    Unsupported(String),
    /// Several programs of a pod export what the program imports.
    #[error("the interface {interface} is exported by several programs ({}): one of them has to be chosen", quoted(.programs))]
    Ambiguous {
        /// The interface.
        interface: String,
        /// The programs' names.
        programs: Vec<String>,
    },
    /// No program of the pod exports what the program imports, but some of them are not there for now.
    #[error("{interface} is imported and nobody exports it: {}", listed(.absent))]
    Unprovided {
        /// The interface.
        interface: String,
        /// The programs that are not there.
        absent: Vec<Absent>,
    },
    /// The wanted listening address is taken.
    #[error("cannot listen on {address}: address already in use")]
    AddressInUse {
        /// Where the program should have listened.
        address: SocketAddr,
    },
    /// The listening socket could not be made for another reason.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where the program should have listened.
        address: SocketAddr,
        /// The system's reason.
        reason: String,
    },
    /// A mount cannot be given to the guest.
    #[error("cannot mount {host} at {guest}: {reason}")]
    Mount {
        /// Path on this machine.
        host: String,
        /// Path the guest would see.
        guest: String,
        /// The reason.
        reason: String,
    },
    /// Too many instances run already.
    #[error("no room for another wasm instance: {0}")]
    Full(String),
    /// The specification contradicts itself or the program.
    #[error("invalid instance specification: {0}")]
    Spec(String),
    /// Reading or writing this machine's files failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The engine could not be set up on this machine.
    #[error("wasm engine: {0}")]
    Engine(String),
    /// The host is shutting down.
    #[error("the wasm host has been shut down")]
    Closed,
}

fn listed(absent: &[Absent]) -> String {
    let each: Vec<String> = absent.iter().map(Absent::to_string).collect();
    each.join("; ")
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}
