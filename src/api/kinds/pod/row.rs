//! A pod as `kubectl get pods` shows it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::cells;
use crate::value::{flag, get, has, int, list, text};

/// One row.
pub fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match (summary.restarts, summary.last_restart) {
        (0, _) | (_, "") => summary.restarts.to_string(),
        (n, time) => format!("{n} ({} ago)", cells::since(time, now)),
    };
    let ip = list(pod, "status.podIPs").first().map_or("", |ip| text(ip, "ip"));
    vec![
        cells::name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.status),
        json!(restarts),
        cells::age(pod, now),
        json!(cells::or_none(ip)),
        json!(cells::or_none(text(pod, "spec.nodeName"))),
        json!(cells::or_none(text(pod, "status.nominatedNodeName"))),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| is_true(pod, text(gate, "conditionType")))
        .count();
    format!("{open}/{}", gates.len())
}

fn is_true(pod: &Value, condition: &str) -> bool {
    list(pod, "status.conditions")
        .iter()
        .any(|c| text(c, "type") == condition && text(c, "status") == "True")
}

/// What the columns READY, STATUS and RESTARTS say.
struct Summary<'a> {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: &'a str,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let sidecars = list(pod, "spec.initContainers")
            .iter()
            .filter(|c| text(c, "restartPolicy") == "Always");
        let mut summary = Summary {
            status: first_reason(pod),
            ready: 0,
            total: list(pod, "spec.containers").len() + sidecars.count(),
            restarts: 0,
            last_restart: "",
        };
        let initializing = summary.see_init_containers(pod);
        if !initializing || is_true(pod, "Initialized") {
            summary.see_containers(pod);
        }
        if has(pod, "metadata.deletionTimestamp") {
            if text(pod, "status.reason") == "NodeLost" {
                summary.status = "Unknown".to_owned();
            } else if !matches!(text(pod, "status.phase"), "Succeeded" | "Failed") {
                summary.status = "Terminating".to_owned();
            }
        }
        summary
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += int(status, "restartCount").unwrap_or(0);
        // RFC 3339 times in UTC with whole seconds sort as text.
        self.last_restart = self
            .last_restart
            .max(text(status, "lastState.terminated.finishedAt"));
    }

    /// Looks at the init containers up to the first that is not done; whether there was one.
    fn see_init_containers(&mut self, pod: &'a Value) -> bool {
        let specs = list(pod, "spec.initContainers");
        for (i, status) in list(pod, "status.initContainerStatuses").iter().enumerate() {
            self.count_restarts(status);
            let sidecar = is_sidecar(specs, text(status, "name"));
            if has(status, "state.terminated") && int(status, "state.terminated.exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if sidecar && flag(status, "started") {
                self.ready += usize::from(flag(status, "ready"));
                continue;
            }
            let waiting = text(status, "state.waiting.reason");
            self.status = if has(status, "state.terminated") {
                format!("Init:{}", ended(get(status, "state.terminated")))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{i}/{}", specs.len())
            };
            return true;
        }
        false
    }

    /// Looks at the containers, last to first: the first one's reason wins.
    fn see_containers(&mut self, pod: &'a Value) {
        (self.restarts, self.last_restart) = (0, "");
        let specs = list(pod, "spec.initContainers");
        for status in list(pod, "status.initContainerStatuses") {
            if is_sidecar(specs, text(status, "name")) {
                self.count_restarts(status);
            }
        }
        let mut running = false;
        for status in list(pod, "status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if has(status, "state.terminated") {
                self.status = ended(get(status, "state.terminated"));
            } else if flag(status, "ready") && has(status, "state.running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            self.status = if is_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .to_owned();
        }
    }
}

fn is_sidecar(specs: &[Value], name: &str) -> bool {
    specs
        .iter()
        .any(|c| text(c, "name") == name && text(c, "restartPolicy") == "Always")
}

fn first_reason(pod: &Value) -> String {
    let gated = list(pod, "status.conditions")
        .iter()
        .any(|c| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated");
    if gated {
        return "SchedulingGated".to_owned();
    }
    match text(pod, "status.reason") {
        "" => text(pod, "status.phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn ended(terminated: &Value) -> String {
    let signal = int(terminated, "signal").unwrap_or(0);
    match text(terminated, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0)),
        reason => reason.to_owned(),
    }
}
