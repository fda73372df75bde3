//! What programs beside the node that extend it speak: gRPC over a unix socket. The messages are those of the
//! Container Storage Interface, of plugins' registration and of keys kept elsewhere, written down as far as they are
//! used.

pub mod answer;
pub mod call;
pub mod csi;
pub mod devices;
pub mod kms;
pub mod pod_resources;
mod proto;
pub mod registration;

pub use call::{Call, Plugin};
pub use tonic::{Code, Status};
