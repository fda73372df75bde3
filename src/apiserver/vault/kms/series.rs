//! What is counted of plugins and their keys, under Kubernetes' names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::telemetry::Metrics;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Used {
    transformation_type: &'static str,
    provider_name: String,
    key_id_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKey {
    provider_name: String,
    key_id_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Invalid {
    provider_name: String,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    provider_name: String,
    method_name: &'static str,
    grpc_status_code: &'static str,
}

type Times = Family<Asked, Histogram, fn() -> Histogram>;
type Seconds<L> = Family<L, Gauge<f64, AtomicU64>>;

/// The series. By default they are registered where nobody reads them.
#[derive(Clone)]
pub struct Series {
    used: Family<Used, Counter>,
    last_used: Seconds<Used>,
    last_told: Seconds<OfKey>,
    invalid: Family<Invalid, Counter>,
    cached: Family<OfProvider, Gauge>,
    times: Times,
}

impl Default for Series {
    fn default() -> Self {
        Self::new(&Metrics::new())
    }
}

/// What a key's identifier is counted as: it may be no secret, but it is somebody's choice.
fn hash(key_id: &str) -> String {
    format!("sha256:{:x}", Sha256::digest(key_id))
}

fn now() -> f64 {
    Timestamp::now().as_millisecond() as f64 / 1000.0
}

impl Series {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |of: &str| format!("apiserver_envelope_encryption_{of}");
        let times = || Histogram::new(exponential_buckets(0.0001, 2.0, 19));
        Self {
            used: metrics.add(
                &name("key_id_hash"),
                "Number of times a keyID is used split by transformation type and provider",
                Family::default(),
            ),
            last_used: metrics.add(
                &name("key_id_hash_last_timestamp_seconds"),
                "The last time in seconds when a keyID was used",
                Family::default(),
            ),
            last_told: metrics.add(
                &name("key_id_hash_status_last_timestamp_seconds"),
                "The last time in seconds when a keyID was returned by the Status RPC call",
                Family::default(),
            ),
            invalid: metrics.add(
                &name("invalid_key_id_from_status"),
                "Number of times an invalid keyID is returned by the Status RPC call split by error",
                Family::default(),
            ),
            cached: metrics.add(
                &name("dek_source_cache_size"),
                "Number of records in data encryption key (DEK) source cache",
                Family::default(),
            ),
            times: metrics.add(
                &name("kms_operations_latency_seconds"),
                "KMS operation duration with gRPC error code status total",
                Family::new_with_constructor(times as fn() -> Histogram),
            ),
        }
    }

    /// Something was sealed with a key, or opened.
    pub fn used(&self, provider: &str, key_id: &str, sealed: bool) {
        let used = Used {
            transformation_type: if sealed { "to_storage" } else { "from_storage" },
            provider_name: provider.to_owned(),
            key_id_hash: hash(key_id),
        };
        self.used.get_or_create(&used).inc();
        self.last_used.get_or_create(&used).set(now());
    }

    /// A plugin named its key.
    pub fn told(&self, provider: &str, key_id: &str, trouble: Option<&'static str>) {
        let provider_name = provider.to_owned();
        if let Some(error) = trouble {
            self.invalid
                .get_or_create(&Invalid { provider_name, error })
                .inc();
            return;
        }
        let key_id_hash = hash(key_id);
        let of = OfKey {
            provider_name,
            key_id_hash,
        };
        self.last_told.get_or_create(&of).set(now());
    }

    /// So many seeds of a plugin are in memory.
    pub fn cached(&self, provider: &str, seeds: usize) {
        let provider_name = provider.to_owned();
        let gauge = self.cached.get_or_create_owned(&OfProvider { provider_name });
        gauge.set(i64::try_from(seeds).unwrap_or(i64::MAX));
    }

    /// A plugin was asked.
    pub fn asked(&self, provider: &str, method: &'static str, code: &'static str, took: Duration) {
        let asked = Asked {
            provider_name: provider.to_owned(),
            method_name: method,
            grpc_status_code: code,
        };
        self.times.get_or_create(&asked).observe(took.as_secs_f64());
    }
}
