//! Sockets for core modules. WASI preview 1 cannot open any, but accept
//! connections on those that a module is given, and use these; wasmtime-wasi
//! answers such calls with an error. So modules that accept get functions of
//! ours in front of its own: what concerns a socket is done here, all else is
//! passed on.
//!
//! A module finds its listening sockets as systemd's services do: at the
//! descriptors from 3 on, with their number in `LISTEN_FDS` and their names in
//! `LISTEN_FDNAMES`.

mod calls;
mod errno;
mod memory;
mod poll;
mod table;

pub(crate) use calls::add_to_linker;
pub(crate) use table::Table;

use wasmtime::Module;

/// The module whose functions these are.
const WASI: &str = "wasi_snapshot_preview1";

/// Whether a module wants to accept connections.
pub(crate) fn accepts(module: &Module) -> bool {
    let mut imports = module.imports();
    imports.any(|import| import.module() == WASI && import.name() == "sock_accept")
}
