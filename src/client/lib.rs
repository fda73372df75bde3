//! How everything but the API server talks to the API.
//!
//! [`Api`] is the door: [`Client`] speaks through it, whether it leads into
//! the same process or ([`HttpApi`]) over TLS to another machine. On top of it
//! stand what every controller needs: [`Cache`] (a collection kept up to date
//! in memory), [`WorkQueue`] (which keys to look at, once each, with back-off)
//! and [`Recorder`] (events that people read in `kubectl describe`).

mod aggregate;
pub mod cache;
pub mod door;
pub mod events;
mod http;
pub mod kubeconfig;
pub mod link;
mod measured;
pub mod pin;
mod places;
pub mod queue;
mod reflect;
mod scan;
pub mod tls;
pub mod trust;
mod typed;
pub mod url;

pub use cache::{Cache, CacheOptions, Change};
pub use door::{Api, ApiRef};
pub use events::{EventType, Recorder, reference};
pub use http::{HttpApi, HttpConfig, HttpError};
pub use kubeconfig::Kubeconfig;
pub use measured::Measured;
pub use queue::{QueueMetrics, WorkQueue};
pub use tls::{Credentials, TlsError};
pub use typed::{Client, DeleteOptions, Object, Page, Propagation, Selectors, resource_of};
