//! The host with real guest programs, as an embedder uses it.

mod apps;
mod commands;
mod compile;
mod embedding;
mod http;
mod interfaces;
mod keyvalue;
mod limits;
mod neighbours;
mod pods;
mod preview1;
mod proposals;
mod providers;
mod resources;
mod sockets;
mod support;
