//! When a node counts as lost, and how fast it is emptied then.

use anyhow::bail;

use super::set::{set, set_seconds};
use crate::config::{Config, EvictionPace};

/// Heartbeats, tolerations and the pace of eviction.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Lost nodes")]
pub struct Loss {
    /// Seconds without a heartbeat after which a node counts as lost [default: 40]
    #[arg(long, value_name = "SECONDS")]
    pub node_monitor_grace_period: Option<u64>,

    /// Lost nodes of a zone per second whose pods are given up [default: 0.1]
    #[arg(long, value_name = "RATE")]
    pub node_eviction_rate: Option<f64>,

    /// The same in a zone that is unhealthy and not small; in a small one none are [default: 0.01]
    #[arg(long, value_name = "RATE")]
    pub secondary_node_eviction_rate: Option<f64>,

    /// Share of a zone's nodes, 0 to 1, that must be lost for it to be unhealthy; at least three are [default: 0.55]
    #[arg(long, value_name = "SHARE")]
    pub unhealthy_zone_threshold: Option<f64>,

    /// Most nodes of a zone that counts as small [default: 50]
    #[arg(long, value_name = "COUNT")]
    pub large_cluster_size_threshold: Option<usize>,

    /// Seconds for which pods stay on a node that is not ready, unless they say themselves [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub default_not_ready_toleration_seconds: Option<u32>,

    /// Seconds for which pods stay on a node that cannot be reached, unless they say themselves [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub default_unreachable_toleration_seconds: Option<u32>,
}

impl Loss {
    pub(super) fn apply(self, config: &mut Config) -> anyhow::Result<()> {
        set_seconds(
            &mut config.node_monitor_grace_period,
            self.node_monitor_grace_period,
        );
        set(
            &mut config.not_ready_toleration_seconds,
            self.default_not_ready_toleration_seconds,
        );
        set(
            &mut config.unreachable_toleration_seconds,
            self.default_unreachable_toleration_seconds,
        );
        self.pace(&mut config.eviction_pace)
    }

    fn pace(&self, pace: &mut EvictionPace) -> anyhow::Result<()> {
        let fields = [
            ("node-eviction-rate", self.node_eviction_rate, &mut pace.rate),
            (
                "secondary-node-eviction-rate",
                self.secondary_node_eviction_rate,
                &mut pace.secondary_rate,
            ),
            (
                "unhealthy-zone-threshold",
                self.unhealthy_zone_threshold,
                &mut pace.unhealthy_share,
            ),
        ];
        for (flag, given, field) in fields {
            let Some(given) = given else { continue };
            if !given.is_finite() || given < 0.0 {
                bail!("--{flag} {given} is no number of 0 or more");
            }
            *field = given;
        }
        if pace.unhealthy_share > 1.0 {
            bail!("--unhealthy-zone-threshold is a share of the nodes, between 0 and 1");
        }
        set(&mut pace.small_zone_max, self.large_cluster_size_threshold);
        Ok(())
    }
}
