//! `wasi:http`: serving a guest's answers, and sending its requests.

mod handler;
mod listen;
mod outbound;
mod reply;
mod routes;
mod serve;
mod tls;
mod told;

pub(crate) use listen::{Listener, listen};
pub(crate) use outbound::Outbound;
pub(crate) use serve::{Site, serve};
pub(crate) use tls::Tls;
