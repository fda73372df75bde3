//! The Kubernetes API server: from a connection to the store and back.
//!
//! Two halves meet here. `http` and its neighbours turn bytes on a connection
//! into an [`api::request::Request`] by a known user; `registry` and
//! `admission` carry it out. Callers in the same process skip the first half
//! and nothing else: [`ApiServer::api`] is the same door, with the same
//! authorisation, admission and validation behind it.

pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
mod backup;
pub mod body;
pub mod config;
pub mod conversion;
pub mod discovery;
pub mod fairness;
mod forms;
pub mod health;
pub mod http;
mod leading;
pub mod lookup;
pub mod members;
pub mod metrics;
pub mod mirror;
pub mod nodes;
mod numbers;
pub mod openapi_routes;
pub mod outbound;
mod own;
mod pace;
mod passing;
pub mod peers;
pub mod pki;
mod priorities;
pub mod rbac;
pub mod registry;
mod reload;
mod remembered;
pub mod room;
pub mod served;
pub mod server;
mod signer;
mod stored;
pub mod streams;
mod switches;
mod tls;
pub mod tokens;
pub mod trust;
pub mod usage;
pub mod vault;
pub mod version;
mod whole;
mod written;

pub use authz::Authorizer;
pub use config::ServerConfig;
pub use nodes::{NodeDialer, NodeLinks};
pub use registry::{Core, CoreConfig};
pub use server::{ApiServer, Prepared, StartError};
pub use switches::Switches;
pub use tokens::Tokens;
