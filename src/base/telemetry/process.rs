//! What this process uses of the machine, under the names that Prometheus' own clients have for it. Read from `/proc`
//! when somebody asks; what cannot be read is left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The kernel counts time in these for programs, whatever it does inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc` at each scrape.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let help = "Total user and system CPU time spent in seconds";
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        gauges(encoder, used(&stat))
    }
}

/// When this process began, alone.
#[derive(Debug)]
pub struct StartTime;

impl Collector for StartTime {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        gauges(encoder, [start_time(&stat)])
    }
}

fn gauges(
    mut encoder: DescriptorEncoder<'_>,
    found: impl IntoIterator<Item = Found>,
) -> Result<(), std::fmt::Error> {
    for (name, help, value) in found {
        let Some(value) = value else { continue };
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
    }
    Ok(())
}

fn start_time(stat: &str) -> Found {
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    (
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds",
        start(stat, &machine),
    )
}

type Found = (&'static str, &'static str, Option<f64>);

fn used(stat: &str) -> [Found; 6] {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // The folder that is read is open itself.
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1) as f64);
    [
        ("process_open_fds", "Number of open file descriptors", open.ok()),
        (
            "process_max_fds",
            "Maximum number of open file descriptors",
            limit(&limits, "Max open files"),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            kibibytes(&status, "VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes",
            kibibytes(&status, "VmSize:"),
        ),
        (
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes",
            limit(&limits, "Max address space"),
        ),
        start_time(stat),
    ]
}

/// A field of `/proc/PID/stat`, numbered as in proc(5); those from the third on, which follow the name.
fn field(stat: &str, number: usize) -> Option<f64> {
    // The name may hold anything, even parentheses and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start(stat: &str, machine: &str) -> Option<f64> {
    let booted: f64 = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .parse()
        .ok()?;
    Some(booted + field(stat, 22)? / TICKS_PER_SECOND)
}

fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 4 0 12345 1048576 256 1844";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start(stat, "cpu 1\nbtime 1000\n"), Some(1123.45));
        assert_eq!(
            limit("Max open files   1024   4096  files\n", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(
            limit(
                "Max address space  unlimited  unlimited bytes",
                "Max address space"
            ),
            Some(u64::MAX as f64)
        );
        assert_eq!(kibibytes("VmRSS:\t    12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let metrics = Metrics::new();
        metrics.collect(Process);
        let text = metrics.encode_plain();
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_resident_memory_bytes",
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            let value: f64 = line.split(' ').nth(1).unwrap_or_default().parse().unwrap();
            assert!(value >= 0.0, "{line}");
        }
        assert!(
            text.contains("# TYPE process_cpu_seconds_total counter"),
            "{text}"
        );
    }
}
