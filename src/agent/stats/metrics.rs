//! Metrics in Prometheus' text form: `metrics/resource`, which the metrics
//! server reads, and `metrics/cadvisor`, whose names dashboards know. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::network::Interface;
use super::{ContainerSample, PodSample, Sample};
use crate::fill::Fill;
use crate::pods::resources::of_container;
use crate::pods::spec;

const NS: f64 = 1e9;

/// `metrics/resource`: CPU and memory of node, pods and containers.
pub fn resource(sample: &Sample) -> String {
    let mut page = Page::default();
    let node = &sample.node;
    let used = node.memory_bytes.saturating_sub(node.memory_available_bytes);
    page.head(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    page.line("", node.cpu_ns as f64 / NS);
    page.head(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
    );
    page.line("", used as f64);
    page.of_pods(
        sample,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        |pod| pod.cpu_ns() as f64 / NS,
    );
    page.of_pods(
        sample,
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        |pod| pod.memory_bytes() as f64,
    );
    let labels = |pod: &PodSample, c: &ContainerSample| format!("container={:?},{}", c.name, pod_labels(pod));
    for metric in &COMMON {
        page.of_containers(sample, metric, &labels);
    }
    page.head(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    page.line("", 0.0);
    page.0
}

/// What of `metrics` tells of volumes behind claims: how full they are. One that several pods share counts once.
pub fn volumes(sample: &Sample) -> String {
    let mut all = BTreeMap::new();
    for pod in &sample.pods {
        for one in &pod.claims {
            let namespace = spec::namespace(&pod.pod);
            let labels = format!("namespace={namespace:?},persistentvolumeclaim={:?}", one.claim);
            all.insert(labels, one.fill);
        }
    }
    let mut page = Page::default();
    for (name, help, value) in VOLUMES {
        page.head(name, "gauge", help);
        for (labels, fill) in &all {
            page.line(labels, value(fill) as f64);
        }
    }
    page.0
}

/// A metric of a volume: name, help, value.
type VolumeMetric = (&'static str, &'static str, fn(&Fill) -> u64);

const VOLUMES: [VolumeMetric; 6] = [
    (
        "kubelet_volume_stats_capacity_bytes",
        "Capacity in bytes of the volume",
        |fill| fill.bytes.0,
    ),
    (
        "kubelet_volume_stats_available_bytes",
        "Number of available bytes in the volume",
        |fill| fill.bytes.1,
    ),
    (
        "kubelet_volume_stats_used_bytes",
        "Number of used bytes in the volume",
        |fill| fill.bytes.2,
    ),
    (
        "kubelet_volume_stats_inodes",
        "Maximum number of inodes in the volume",
        |fill| fill.inodes.0,
    ),
    (
        "kubelet_volume_stats_inodes_free",
        "Number of free inodes in the volume",
        |fill| fill.inodes.1,
    ),
    (
        "kubelet_volume_stats_inodes_used",
        "Number of used inodes in the volume",
        |fill| fill.inodes.2,
    ),
];

/// `metrics/cadvisor`: what containers use and may use.
pub fn cadvisor(sample: &Sample) -> String {
    let mut page = Page::default();
    let labels = |pod: &PodSample, c: &ContainerSample| {
        let bare = c.id.rsplit('/').next().unwrap_or_default();
        let id = format!("/pod{}/{bare}", spec::uid(&pod.pod));
        format!(
            "container={:?},id={id:?},image={:?},name={bare:?},{}",
            c.name,
            c.image,
            pod_labels(pod)
        )
    };
    for metric in COMMON.iter().chain(&FURTHER) {
        page.of_containers(sample, metric, &labels);
    }
    for (name, help, count) in NETWORK {
        page.head(name, "counter", help);
        for pod in &sample.pods {
            for one in &pod.network {
                let labels = format!("interface={:?},{}", one.name, pod_labels(pod));
                page.line(&labels, count(one) as f64);
            }
        }
    }
    page.head("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    page.line("", sample.node.cores as f64);
    page.head(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    );
    page.line("", sample.node.memory_bytes as f64);
    page.0
}

/// A counter of an interface.
type Count = fn(&Interface) -> u64;

static NETWORK: [(&str, &str, Count); 4] = [
    (
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        |one| one.rx_bytes,
    ),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |one| one.rx_errors,
    ),
    (
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        |one| one.tx_bytes,
    ),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |one| one.tx_errors,
    ),
];

/// A metric of containers; `None` where it has no value.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&PodSample, &ContainerSample) -> Option<f64>,
}

static COMMON: [Metric; 3] = [
    Metric {
        name: "container_cpu_usage_seconds_total",
        kind: "counter",
        help: "Cumulative cpu time consumed by the container in core-seconds",
        value: |_, c| Some(c.usage.cpu_ns as f64 / NS),
    },
    Metric {
        name: "container_memory_working_set_bytes",
        kind: "gauge",
        help: "Current working set of the container in bytes",
        value: |_, c| Some(c.usage.memory_bytes as f64),
    },
    Metric {
        name: "container_start_time_seconds",
        kind: "gauge",
        help: "Start time of the container since unix epoch in seconds",
        value: |_, c| c.started.map(|at| at.as_millisecond() as f64 / 1000.0),
    },
];

static FURTHER: [Metric; 4] = [
    Metric {
        name: "container_memory_usage_bytes",
        kind: "gauge",
        help: "Current memory usage in bytes, without page cache that could be dropped",
        value: |_, c| Some(c.usage.memory_bytes as f64),
    },
    Metric {
        name: "container_processes",
        kind: "gauge",
        help: "Number of processes running inside the container.",
        value: |_, c| Some(c.usage.pids as f64),
    },
    Metric {
        name: "container_spec_memory_limit_bytes",
        kind: "gauge",
        help: "Memory limit for the container.",
        value: |pod, c| limits(pod, c)?.memory_limit_bytes.map(|n| n as f64),
    },
    Metric {
        name: "container_spec_cpu_quota",
        kind: "gauge",
        help: "CPU quota of the container.",
        value: |pod, c| limits(pod, c)?.cpu_limit_millis.map(|n| n as f64 * 100.0),
    },
];

fn limits(pod: &PodSample, c: &ContainerSample) -> Option<oci::Resources> {
    spec::container(&pod.pod, &c.name).map(|(_, container)| of_container(&container))
}

fn pod_labels(pod: &PodSample) -> String {
    let (namespace, name) = (spec::namespace(&pod.pod), spec::name(&pod.pod));
    format!("namespace={namespace:?},pod={name:?}")
}

#[derive(Default)]
struct Page(String, &'static str);

impl Page {
    fn head(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, labels: &str, value: f64) {
        let name = self.1;
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn of_pods(
        &mut self,
        sample: &Sample,
        name: &'static str,
        kind: &str,
        help: &str,
        value: fn(&PodSample) -> f64,
    ) {
        self.head(name, kind, help);
        for pod in &sample.pods {
            self.line(&pod_labels(pod), value(pod));
        }
    }

    fn of_containers(
        &mut self,
        sample: &Sample,
        metric: &Metric,
        labels: &dyn Fn(&PodSample, &ContainerSample) -> String,
    ) {
        self.head(metric.name, metric.kind, metric.help);
        for pod in &sample.pods {
            for container in &pod.containers {
                if let Some(value) = (metric.value)(pod, container) {
                    self.line(&labels(pod, container), value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::sample;
    use super::*;

    #[test]
    fn volumes_are_counted_by_their_claims() {
        let text = volumes(&sample(10, 0));
        let line = "kubelet_volume_stats_used_bytes{namespace=\"ns\",persistentvolumeclaim=\"data\"} 40";
        assert!(text.lines().any(|is| is == line), "{text}");
    }

    #[test]
    fn metrics_carry_the_names_that_dashboards_know() {
        let sample = sample(10, 2_500_000_000);
        let text = resource(&sample);
        let of = "container=\"c\",namespace=\"ns\",pod=\"p\"";
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
            format!("container_cpu_usage_seconds_total{{{of}}} 2.5"),
            format!("container_memory_working_set_bytes{{{of}}} 4096"),
            format!("container_start_time_seconds{{{of}}} 5"),
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"p\"} 2.5".to_owned(),
            "node_memory_working_set_bytes 60".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let text = cadvisor(&sample);
        let all = "container=\"c\",id=\"/podu/1\",image=\"i:1\",name=\"1\",namespace=\"ns\",pod=\"p\"";
        for line in [
            format!("container_spec_memory_limit_bytes{{{all}}} 1048576"),
            format!("container_spec_cpu_quota{{{all}}} 50000"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
