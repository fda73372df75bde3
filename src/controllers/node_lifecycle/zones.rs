//! How fast lost nodes are emptied: by the state of their zone, with the names, rates and thresholds of
//! kube-controller-manager's node lifecycle controller ("Rate limits on eviction" in Kubernetes' documentation).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A zone in which no more nodes than this are lost is not in trouble, whatever their share.
const FEW: usize = 2;

/// How many nodes may be emptied in which time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvictionPace {
    /// `--node-eviction-rate`: nodes of a zone per second, where most of them are well.
    pub rate: f64,
    /// `--secondary-node-eviction-rate`: the same where many are lost. Small zones are then left alone.
    pub secondary_rate: f64,
    /// `--unhealthy-zone-threshold`: the share of lost nodes, 0 to 1, that is many.
    pub unhealthy_share: f64,
    /// `--large-cluster-size-threshold`: a zone of up to so many nodes is small.
    pub small_zone_max: usize,
}

impl Default for EvictionPace {
    fn default() -> Self {
        Self {
            rate: 0.1,
            secondary_rate: 0.01,
            unhealthy_share: 0.55,
            small_zone_max: 50,
        }
    }
}

/// What may happen to the pods of a lost node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// They are evicted, nodes of the same zone one after the other with so much time in between.
    OneNodeEvery(Duration),
    /// No further node's pods are evicted.
    NoFurther,
    /// Nobody's are, not even those that wait for it: with every node lost, the fault is more likely on this side.
    Nobody,
}

/// The nodes of one zone.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    nodes: usize,
    lost: usize,
}

impl Zone {
    fn is_lost(self) -> bool {
        self.lost > 0 && self.lost == self.nodes
    }

    /// A zone that is lost as a whole is emptied like a healthy one, into the others.
    fn rate(self, pace: &EvictionPace) -> f64 {
        let many = self.lost > FEW && self.lost as f64 >= pace.unhealthy_share * self.nodes as f64;
        match many && !self.is_lost() {
            false => pace.rate,
            true if self.nodes > pace.small_zone_max => pace.secondary_rate,
            true => 0.0,
        }
    }
}

/// The name of a node's zone, which is empty for nodes that say none.
pub fn of(node: &Node) -> String {
    let label = |name| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(name))
            .map_or("", String::as_str)
    };
    match (label(REGION), label(ZONE)) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}:{zone}"),
    }
}

/// What may happen to the pods of `node`, one of `nodes`, which is lost.
pub fn judge(node: &Node, nodes: &[Arc<Node>], lost: impl Fn(&Node) -> bool, pace: &EvictionPace) -> Verdict {
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    for node in nodes {
        let zone = zones.entry(of(node)).or_default();
        zone.nodes += 1;
        zone.lost += usize::from(lost(node));
    }
    if zones.values().all(|zone| zone.is_lost()) {
        return Verdict::Nobody;
    }
    let zone = zones.get(&of(node)).copied().unwrap_or_default();
    // A rate of nothing has no such time.
    Duration::try_from_secs_f64(1.0 / zone.rate(pace)).map_or(Verdict::NoFurther, Verdict::OneNodeEvery)
}

/// Which node of each zone was the last whose pods were given up, and when.
#[derive(Debug, Default)]
pub struct Turns(BTreeMap<String, (String, Timestamp)>);

impl Turns {
    /// Takes a node's turn in its zone, `distance` after the one before.
    ///
    /// # Errors
    /// How long it has to wait at least.
    pub fn take(
        &mut self,
        zone: &str,
        node: &str,
        distance: Duration,
        now: Timestamp,
    ) -> Result<(), Duration> {
        if let Some((last, since)) = self.0.get(zone) {
            let passed = Duration::try_from(now.duration_since(*since)).unwrap_or_default();
            // Whose turn it was keeps it: what it was taken for may have to be tried again.
            if last != node && passed < distance {
                return Err(distance - passed);
            }
            if last == node {
                return Ok(());
            }
        }
        self.0.insert(zone.to_owned(), (node.to_owned(), now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: String, zone: &str) -> Arc<Node> {
        let labels = json!({ZONE: zone});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
    }

    /// Nodes of zones by name, how many are well and how many are lost.
    fn nodes(zones: &[(&str, usize, usize)]) -> Vec<Arc<Node>> {
        let of = |(zone, ready, lost): &(&str, usize, usize)| {
            let ready = (0..*ready).map(|n| node(format!("ready-{zone}-{n}"), zone));
            let lost = (0..*lost).map(|n| node(format!("lost-{zone}-{n}"), zone));
            ready.chain(lost).collect::<Vec<_>>()
        };
        zones.iter().flat_map(of).collect()
    }

    fn verdict(zones: &[(&str, usize, usize)]) -> Verdict {
        let lost = |node: &Node| node.metadata.name.as_ref().unwrap().starts_with("lost");
        let nodes = nodes(zones);
        let first = nodes.iter().find(|node| lost(node)).unwrap();
        judge(first, &nodes, lost, &EvictionPace::default())
    }

    #[test]
    fn the_pace_is_that_of_the_zone() {
        let (normal, slow) = (Duration::from_secs(10), Duration::from_secs(100));
        for (zones, expected) in [
            (&[("a", 1, 1)][..], Verdict::OneNodeEvery(normal)),
            // Most of a small zone, and of a large one.
            (&[("a", 2, 3)], Verdict::NoFurther),
            (&[("a", 3, 3)], Verdict::OneNodeEvery(normal)),
            (&[("a", 40, 60)], Verdict::OneNodeEvery(slow)),
            // A zone that is lost as a whole, and all of them.
            (&[("a", 0, 5), ("b", 1, 0)], Verdict::OneNodeEvery(normal)),
            (&[("a", 0, 1)], Verdict::Nobody),
            (&[("a", 0, 5), ("b", 0, 2)], Verdict::Nobody),
            // Other zones' troubles are their own.
            (&[("a", 1, 1), ("b", 1, 9)], Verdict::OneNodeEvery(normal)),
        ] {
            assert_eq!(verdict(zones), expected, "{zones:?}");
        }
    }

    #[test]
    fn a_rate_of_nothing_evicts_nobody() {
        let pace = EvictionPace {
            rate: 0.0,
            ..EvictionPace::default()
        };
        let nodes = nodes(&[("a", 1, 1)]);
        let lost = |node: &Node| node.metadata.name.as_deref() == Some("lost-a-0");
        assert_eq!(judge(&nodes[1], &nodes, lost, &pace), Verdict::NoFurther);
    }

    #[test]
    fn nodes_of_a_zone_take_turns() {
        let mut turns = Turns::default();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let ten = Duration::from_secs(10);
        assert_eq!(turns.take("a", "one", ten, at(100)), Ok(()));
        assert_eq!(turns.take("a", "two", ten, at(104)), Err(Duration::from_secs(6)));
        assert_eq!(turns.take("a", "one", ten, at(104)), Ok(()));
        assert_eq!(turns.take("b", "three", ten, at(104)), Ok(()));
        assert_eq!(turns.take("a", "two", ten, at(110)), Ok(()));
        assert_eq!(turns.take("a", "one", ten, at(111)), Err(Duration::from_secs(9)));
    }
}
