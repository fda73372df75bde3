//! What an agent says of its node, its counters as they are. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// A container: namespace, pod and its own name.
pub(super) type Place = (String, String, String);

/// Counters of one container, or of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    /// CPU time so far, in seconds.
    pub cpu_seconds: f64,
    /// Memory that cannot be dropped, in bytes.
    pub memory_bytes: f64,
    /// Since when it runs, in seconds since 1970; 0 if unknown.
    pub started: f64,
}

/// A page of `metrics/resource`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    /// When.
    pub at: Timestamp,
    /// The node.
    pub node: Counters,
    /// Its containers.
    pub containers: BTreeMap<Place, Counters>,
}

impl Scrape {
    /// Reads a page; lines that say something else are passed over.
    pub fn parse(page: &str, at: Timestamp) -> Self {
        let mut scrape = Self {
            at,
            ..Self::default()
        };
        for line in page.lines() {
            scrape.take(line);
        }
        scrape
    }

    /// How old it is at that time.
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.at)).unwrap_or_default()
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (series, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        match name {
            "node_cpu_usage_seconds_total" => self.node.cpu_seconds = value,
            "node_memory_working_set_bytes" => self.node.memory_bytes = value,
            "container_cpu_usage_seconds_total" => self.container(labels)?.cpu_seconds = value,
            "container_memory_working_set_bytes" => self.container(labels)?.memory_bytes = value,
            "container_start_time_seconds" => self.container(labels)?.started = value,
            _ => {}
        }
        Some(())
    }

    fn container(&mut self, labels: &str) -> Option<&mut Counters> {
        let label = |name: &str| {
            let mut pairs = labels.trim_end_matches('}').split(',');
            let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('"').to_owned())
        };
        let place = (label("namespace")?, label("pod")?, label("container")?);
        Some(self.containers.entry(place).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = "# HELP node_cpu_usage_seconds_total x\nnode_cpu_usage_seconds_total 12.5\n\
            node_memory_working_set_bytes 1048576\n\
            container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\"} 2.5\n\
            container_memory_working_set_bytes{container=\"c\",namespace=\"ns\",pod=\"p\"} 4096\n\
            container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"p\"} 5\nresource_scrape_error 0\n";
        let scrape = Scrape::parse(page, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (scrape.node.cpu_seconds, scrape.node.memory_bytes),
            (12.5, 1_048_576.0)
        );
        let place = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        let counters = Counters {
            cpu_seconds: 2.5,
            memory_bytes: 4096.0,
            started: 5.0,
        };
        assert_eq!(scrape.containers, BTreeMap::from([(place, counters)]));
    }
}
