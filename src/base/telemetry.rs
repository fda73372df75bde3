//! Logs (through `tracing`) and metrics (Prometheus' text format).

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

mod histogram;
mod plain;
mod process;

pub use histogram::Histogram;
pub use process::{Process, StartTime};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is neither a level nor a list of `target=level`.
    #[error("log level {0:?} is not understood: {1}")]
    Level(String, String),
    /// The format is neither `text` nor `json`.
    #[error("log format {0:?} is neither \"text\" nor \"json\"")]
    Format(String),
    /// Logging was set up already in this process.
    #[error("logging is set up already")]
    Twice,
}

/// Libraries that say at `info` what is for nobody: two lines for each question to the name server. Who wants to hear it
/// names the library.
const QUIET: &str = "hickory_server=warn";

/// What is logged at that level.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    // Of two directives for one target the later one counts.
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|error| TelemetryError::Level(level.to_owned(), error.to_string()))
}

/// Sends log lines to standard error. `level` is a level (`info`) or a list of
/// `target=level` as `tracing_subscriber::EnvFilter` reads it.
pub fn init(level: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let done = match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().finish().try_init(),
    };
    done.map_err(|_| TelemetryError::Twice)
}

/// The metrics of one process or one embedded node. Cheap to clone; clones
/// share one registry. Not global, so that two nodes in one process keep apart.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    // A std mutex: nothing awaits while holding it.
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Metrics::default()
    }

    /// Adds a metric and hands it back, so that construction reads
    /// `let requests = metrics.add("requests", "Requests served", Counter::default());`.
    /// `help` without a final full stop: the encoder adds one.
    pub fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.lock().register(name, help, metric.clone());
        metric
    }

    /// Adds what is measured only when somebody asks.
    pub fn collect(&self, collector: impl Collector) {
        self.lock().register_collector(Box::new(collector));
    }

    /// Everything in Prometheus' older text format, 0.0.4.
    pub fn encode_plain(&self) -> String {
        plain::of(&self.encode())
    }

    /// Everything in the OpenMetrics text format, 1.0.0.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.lock());
        text
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A counter under exactly the name it is given: some of Kubernetes' end in `_count`, and [`Counter`] would add
/// `_total`.
#[derive(Clone, Debug, Default)]
pub struct PlainCounter(Counter);

impl PlainCounter {
    /// Counts one.
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for PlainCounter {
    // As a counter its name would have to end in `_total`.
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for PlainCounter {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        // A gauge differs from a counter in its name alone.
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_show_up_in_the_text() {
        let metrics = Metrics::new();
        let counter: Counter = metrics.add("things", "Things seen", Counter::default());
        counter.inc();
        assert!(metrics.clone().encode().contains("things_total 1"));
    }

    #[test]
    fn plain_counters_keep_their_names() {
        let metrics = Metrics::new();
        metrics
            .add("thing_count", "Things seen", PlainCounter::default())
            .inc();
        let text = metrics.encode();
        assert!(
            text.contains("# TYPE thing_count un") && text.contains("\nthing_count 1"),
            "{text}"
        );
    }

    #[test]
    fn chatty_libraries_are_quiet_until_somebody_names_them() {
        assert!(filter("info").unwrap().to_string().contains(QUIET));
        let named = filter("info,hickory_server=debug").unwrap().to_string();
        assert!(
            named.contains("hickory_server=debug") && !named.contains(QUIET),
            "{named}"
        );
        assert!(filter("no=such=level").is_err());
    }

    #[test]
    fn formats_are_parsed_and_wrong_ones_named() {
        assert_eq!("json".parse::<LogFormat>().ok(), Some(LogFormat::Json));
        let error = "xml".parse::<LogFormat>().map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("log format \"xml\" is neither \"text\" nor \"json\"".to_owned())
        );
    }
}
