//! What the node and its pods use, for those who watch: the kubelet's
//! `stats/summary`, and metrics as Prometheus reads them.

mod collect;
mod metrics;
mod network;
mod summary;

pub use collect::{ClaimUse, ContainerSample, NodeSample, PodSample, Sample, collect};
pub use metrics::{cadvisor, resource, volumes};
pub use summary::summary;

use std::sync::{Mutex, PoisonError};

/// The sample that the last summary was made of.
#[derive(Default)]
// A std mutex: nothing awaits while it is held.
pub struct LastSample(Mutex<Option<Sample>>);

impl LastSample {
    /// Puts a new one in its place.
    pub fn replace(&self, sample: &Sample) -> Option<Sample> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(sample.clone())
    }
}
