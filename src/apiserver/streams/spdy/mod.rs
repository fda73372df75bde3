//! SPDY/3.1, as far as Kubernetes' clients speak it: the server's side of a
//! connection on which the client opens streams. (The draft
//! `draft-mbelshe-httpbis-spdy-00`; clients use no flow control.)

mod frame;
#[cfg(test)]
mod fuzz;
mod headers;
mod session;
#[cfg(test)]
pub mod testing;

pub use session::{Session, Stream, Writer};
