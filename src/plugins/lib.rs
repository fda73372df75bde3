//! What programs beside the node that extend it speak: gRPC over a unix socket. The messages are those of the
//! Container Storage Interface and of plugins' registration, written down as far as they are used.

pub mod answer;
pub mod call;
pub mod csi;
mod proto;
pub mod registration;

pub use call::{Call, Plugin};
pub use tonic::{Code, Status};
