//! `wasi:http`: serving a guest's answers, and sending its requests.

mod listen;
mod outbound;
mod reply;
mod serve;
mod tls;

pub(crate) use listen::{Listener, listen};
pub(crate) use outbound::Outbound;
pub(crate) use serve::serve;
pub(crate) use tls::Tls;
