//! The Kubernetes API server: from a connection to the store and back.
//!
//! Two halves meet here. `http` and its neighbours turn bytes on a connection
//! into an [`api::request::Request`] by a known user; `registry` and
//! `admission` carry it out. Callers in the same process skip the first half
//! and nothing else: `ApiServer::api` is the same door, with the same
//! authorisation, admission and validation behind it.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod config;
pub mod lookup;
pub mod nodes;
pub mod pki;
pub mod rbac;
pub mod registry;
mod tls;
pub mod tokens;

pub use authz::Authorizer;
pub use config::ServerConfig;
pub use nodes::{NodeDialer, NodeLinks};
pub use registry::{Core, CoreConfig};
pub use tokens::Tokens;
