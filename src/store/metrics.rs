//! What a store counts, for `/metrics`.

use std::sync::atomic::AtomicI64;

use base::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::state::Usage;

/// Seconds that a sync takes: from a disk with a cache of its own to a worn card.
const SYNC_BUCKETS: [f64; 14] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];

/// Seconds that applying takes: from one small entry to a thousand large ones over a slow disk.
const APPLY_BUCKETS: [f64; 14] = [
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0,
];

type Number = Gauge<i64, AtomicI64>;

/// Shared by all parts of one store; clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Seconds that each sync of the log took.
    pub syncs: Histogram,
    /// Seconds from each write being asked for here until it was committed and applied.
    pub commits: Histogram,
    /// Seconds that each turn took in which committed entries were applied.
    pub applies: Histogram,
    /// Bytes written to the log, in whole sectors.
    pub log_bytes: Counter,
    /// Bytes that the state has written to its files, merging included.
    pub state_written: Number,
    /// Bytes that the state takes, history included.
    pub state_bytes: Number,
    /// Bytes that it may take, 0 without a limit.
    pub quota_bytes: Number,
    /// 1 while writes that grow are refused.
    pub full: Number,
    /// 1 while no writes are taken at all.
    pub suspended: Number,
    /// Snapshots handed to members that lagged too far behind.
    pub snapshots_sent: Counter,
    /// Snapshots that took the state's place.
    pub snapshots_installed: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            syncs: Histogram::new(SYNC_BUCKETS),
            commits: Histogram::new(SYNC_BUCKETS),
            applies: Histogram::new(APPLY_BUCKETS),
            log_bytes: Counter::default(),
            state_written: Number::default(),
            state_bytes: Number::default(),
            quota_bytes: Number::default(),
            full: Number::default(),
            suspended: Number::default(),
            snapshots_sent: Counter::default(),
            snapshots_installed: Counter::default(),
        }
    }
}

impl Counters {
    /// Notes how much room the state takes.
    pub fn measured(&self, usage: Usage, quota: u64, full: bool) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.state_bytes.set(number(usage.bytes));
        self.state_written.set(number(usage.written_bytes));
        self.quota_bytes.set(number(quota));
        self.full.set(i64::from(full));
    }

    /// Lets a registry show them.
    pub fn register(&self, metrics: &Metrics) {
        let name = |name: &str| format!("coracle_store_{name}");
        let histograms = [
            (
                "log_sync_duration_seconds",
                "Seconds that a sync of the log took",
                &self.syncs,
            ),
            (
                "commit_duration_seconds",
                "Seconds from a write being asked for on this server until it was committed and applied",
                &self.commits,
            ),
            (
                "apply_duration_seconds",
                "Seconds that it took to apply what was committed, as much as there was at once",
                &self.applies,
            ),
        ];
        for (short, help, histogram) in histograms {
            metrics.add(&name(short), help, histogram.clone());
        }
        let counters = [
            (
                "log_written_bytes",
                "Bytes written to the log, in whole sectors",
                &self.log_bytes,
            ),
            (
                "snapshots_sent",
                "Snapshots handed to other servers",
                &self.snapshots_sent,
            ),
            (
                "snapshots_installed",
                "Snapshots of other servers taken over",
                &self.snapshots_installed,
            ),
        ];
        for (short, help, counter) in counters {
            metrics.add(&name(short), help, counter.clone());
        }
        let gauges = [
            (
                "state_written_bytes",
                "Bytes that the state has written since the start, merging included",
                &self.state_written,
            ),
            (
                "state_size_bytes",
                "Bytes that the state takes, history included",
                &self.state_bytes,
            ),
            (
                "quota_bytes",
                "Bytes that the state may take, 0 without a limit",
                &self.quota_bytes,
            ),
            ("full", "1 while writes that grow are refused", &self.full),
            ("suspended", "1 while the disk takes no writes", &self.suspended),
        ];
        for (short, help, gauge) in gauges {
            metrics.add(&name(short), help, gauge.clone());
        }
    }
}
