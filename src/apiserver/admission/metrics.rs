//! What is counted of admission, under Kubernetes' names.

use std::sync::OnceLock;
use std::time::Duration;

use base::telemetry::{Metrics, PlainCounter};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::plugin::Operation;

/// Upper bounds for plugins and steps, seconds (apiserver `admission/metrics`).
const TIMES: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// The same for webhooks.
const WEBHOOK_TIMES: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Higher codes of refusals are counted as this one, so that webhooks cannot make series as they like.
const CODE_MAX: u16 = 600;

/// Which half of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The one that may change the object.
    Admit,
    /// The one that only refuses.
    Validate,
}

impl Phase {
    fn of_plugins(self) -> &'static str {
        match self {
            Phase::Admit => "admit",
            Phase::Validate => "validate",
        }
    }

    fn of_webhooks(self) -> &'static str {
        match self {
            Phase::Admit => "admit",
            Phase::Validate => "validating",
        }
    }
}

/// How somebody took a request.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// In which half.
    pub phase: Phase,
    /// What kind of request it was.
    pub operation: Operation,
    /// Whether it was refused for that.
    pub rejected: bool,
    /// How long it took.
    pub took: Duration,
}

/// Why a webhook's turn ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It said no.
    None,
    /// It could not be asked.
    Call,
    /// This server could not.
    Own,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::None => "no_error",
            Fault::Call => "calling_webhook_error",
            Fault::Own => "apiserver_internal_error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Turn {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u16,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    error_type: &'static str,
    rejection_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedOpen {
    name: String,
    r#type: &'static str,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// The series of admission.
pub struct AdmissionMetrics {
    steps: Times<Step>,
    turns: Times<Turn>,
    /// Those of `turns` that are each plugin's, so that a plugin's turn, which every write has dozens of, looks
    /// nothing up.
    plugins: Vec<(&'static str, [OnceLock<Histogram>; SERIES])>,
    webhook_times: Times<Turn>,
    webhook_requests: Family<Asked, Counter>,
    rejections: Family<Rejected, PlainCounter>,
    failed_open: Family<FailedOpen, PlainCounter>,
}

/// Series of one plugin: two phases, four operations, rejected or not.
const SERIES: usize = 2 * 4 * 2;

impl Taken {
    fn rejected(self) -> &'static str {
        if self.rejected { "true" } else { "false" }
    }

    /// Where its series is among those of a plugin.
    fn place(self) -> usize {
        let operation = match self.operation {
            Operation::Create => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
            Operation::Connect => 3,
        };
        let phase = usize::from(self.phase == Phase::Validate);
        (phase * 4 + operation) * 2 + usize::from(self.rejected)
    }

    fn turn(self, name: &str, sort: &'static str) -> Turn {
        Turn {
            name: name.to_owned(),
            r#type: sort,
            operation: self.operation.name(),
            rejected: self.rejected(),
        }
    }
}

impl AdmissionMetrics {
    /// Registers them; `plugins` are the names of the plugins in their order.
    pub fn new(metrics: &Metrics, plugins: impl Iterator<Item = &'static str>) -> Self {
        let times = || Histogram::new(TIMES);
        Self {
            steps: metrics.add(
                "apiserver_admission_step_admission_duration_seconds",
                "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and \
                 step type (validate or admit)",
                Family::new_with_constructor(times),
            ),
            turns: metrics.add(
                "apiserver_admission_controller_admission_duration_seconds",
                "Admission controller latency histogram in seconds, identified by name and broken out for each \
                 operation and API resource and type (validate or admit)",
                Family::new_with_constructor(times),
            ),
            plugins: plugins.map(|name| (name, Default::default())).collect(),
            webhook_times: metrics.add(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Admission webhook latency histogram in seconds, identified by name and broken out for each operation \
                 and API resource and type (validate or admit)",
                Family::new_with_constructor(|| Histogram::new(WEBHOOK_TIMES)),
            ),
            webhook_requests: metrics.add(
                "apiserver_admission_webhook_request",
                "Admission webhook request total, identified by name and broken out for each admission type \
                 (validating or mutating) and operation",
                Family::default(),
            ),
            rejections: metrics.add(
                "apiserver_admission_webhook_rejection_count",
                "Admission webhook rejection count, identified by name and broken out for each admission type \
                 (validating or admit) and operation",
                Family::default(),
            ),
            failed_open: metrics.add(
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhook fail open count, identified by name and broken out for each admission type \
                 (validating or admit)",
                Family::default(),
            ),
        }
    }

    /// A whole half was gone through.
    pub fn step(&self, taken: Taken) {
        let step = Step {
            r#type: taken.phase.of_plugins(),
            operation: taken.operation.name(),
            rejected: taken.rejected(),
        };
        self.steps.get_or_create(&step).observe(taken.took.as_secs_f64());
    }

    /// A plugin, by its place among all, had its turn.
    pub fn plugin(&self, place: usize, taken: Taken) {
        let Some((name, series)) = self.plugins.get(place) else {
            return;
        };
        if let Some(series) = series.get(taken.place()) {
            let made = || {
                self.turns
                    .get_or_create_owned(&taken.turn(name, taken.phase.of_plugins()))
            };
            series.get_or_init(made).observe(taken.took.as_secs_f64());
        }
    }

    /// A webhook was asked, and its turn came to that code.
    pub fn webhook(&self, name: &str, taken: Taken, code: u16) {
        let sort = taken.phase.of_webhooks();
        self.webhook_times
            .get_or_create(&taken.turn(name, sort))
            .observe(taken.took.as_secs_f64());
        let asked = Asked {
            name: name.to_owned(),
            r#type: sort,
            operation: taken.operation.name(),
            code: code.min(CODE_MAX),
            rejected: taken.rejected(),
        };
        self.webhook_requests.get_or_create(&asked).inc();
    }

    /// A request ended with a webhook's turn.
    pub fn webhook_rejected(&self, name: &str, taken: Taken, fault: Fault, code: u16) {
        let rejected = Rejected {
            name: name.to_owned(),
            r#type: taken.phase.of_webhooks(),
            operation: taken.operation.name(),
            error_type: fault.name(),
            rejection_code: code.min(CODE_MAX),
        };
        self.rejections.get_or_create(&rejected).inc();
    }

    /// A webhook was left out, since it could not be asked.
    pub fn webhook_failed_open(&self, name: &str, phase: Phase) {
        let of = FailedOpen {
            name: name.to_owned(),
            r#type: phase.of_webhooks(),
        };
        self.failed_open.get_or_create(&of).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_kubernetes_names() {
        let metrics = Metrics::new();
        let admission = AdmissionMetrics::new(&metrics, ["LimitRanger", "Priority"].into_iter());
        let taken = Taken {
            phase: Phase::Validate,
            operation: Operation::Delete,
            rejected: true,
            took: Duration::from_millis(30),
        };
        admission.step(taken);
        admission.plugin(1, taken);
        admission.plugin(1, taken);
        admission.webhook("a.b.c", taken, 403);
        admission.webhook_rejected("a.b.c", taken, Fault::Call, 777);
        admission.webhook_failed_open("a.b.c", Phase::Admit);
        let text = metrics.encode();
        let of = "type=\"validate\",operation=\"DELETE\",rejected=\"true\"";
        for line in [
            format!("apiserver_admission_step_admission_duration_seconds_count{{{of}}} 1"),
            format!("apiserver_admission_controller_admission_duration_seconds_count{{name=\"Priority\",{of}}} 2"),
            "apiserver_admission_webhook_admission_duration_seconds_bucket{le=\"0.1\",name=\"a.b.c\",\
             type=\"validating\",operation=\"DELETE\",rejected=\"true\"} 1"
                .to_owned(),
            "apiserver_admission_webhook_request_total{name=\"a.b.c\",type=\"validating\",operation=\"DELETE\",\
             code=\"403\",rejected=\"true\"} 1"
                .to_owned(),
            "apiserver_admission_webhook_rejection_count{name=\"a.b.c\",type=\"validating\",operation=\"DELETE\",\
             error_type=\"calling_webhook_error\",rejection_code=\"600\"} 1"
                .to_owned(),
            "apiserver_admission_webhook_fail_open_count{name=\"a.b.c\",type=\"admit\"} 1".to_owned(),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
        assert!(!text.contains("LimitRanger"), "nobody asked it");
    }
}
