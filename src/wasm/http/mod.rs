//! `wasi:http`: serving a guest's answers, and sending its requests.

mod body;
mod handler;
mod neighbour;
mod outbound;
mod reply;
mod routes;
mod serve;
mod tls;
mod told;
mod visit;

pub(crate) use outbound::Outbound;
pub(crate) use serve::{Server, Site};
pub(crate) use tls::Tls;
