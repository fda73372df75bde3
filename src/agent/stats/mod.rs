//! What the node and its pods use, for those who watch: the kubelet's
//! `stats/summary`, and metrics as Prometheus reads them.

mod collect;
mod last;
mod metrics;
mod network;
mod sample;
mod summary;

pub use collect::collect;
pub use last::LastSample;
pub use metrics::{cadvisor, resource, volumes};
pub use sample::{ClaimUse, ContainerSample, NodeSample, PodSample, Sample};
pub use summary::summary;
