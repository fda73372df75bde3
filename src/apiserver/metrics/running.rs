//! What is under way.

use prometheus_client::metrics::gauge::Gauge;

use super::requests::Lasting;

/// Counts one while it lives.
pub struct Running {
    gauge: Gauge,
    /// Takes its time, where that counts; it ends with this.
    pub(super) lasting: Option<Lasting>,
}

impl Running {
    /// One more of those that the gauge counts.
    pub(super) fn of(gauge: Gauge) -> Self {
        gauge.inc();
        Self { gauge, lasting: None }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gauge.dec();
        drop(self.lasting.take());
    }
}
