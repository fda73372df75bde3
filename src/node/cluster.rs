//! What a joined server keeps of its cluster: `cluster.json` in the data folder.
//!
//! It is written before the cluster's keys. A folder that has it and lacks a
//! key was left behind by a join that was cut short, and must not be taken for
//! the beginning of a new cluster.

use std::path::Path;

use anyhow::{Context, bail};
use controllers::node_lifecycle::EvictionPace;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;

const FILE: &str = "cluster.json";
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cluster {
    version: u32,
    /// The cluster's id, in hexadecimal digits.
    pub id: String,
    /// The URL of the server by way of which it joined, if it is a witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// Settings that all its servers share.
    pub settings: Shared,
}

/// Settings that all servers of a cluster share, as flags spell them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Shared {
    pod_cidr: String,
    service_cidr: String,
    node_cidr_mask_size: u8,
    node_cidr_mask_size_ipv6: u8,
    cluster_dns: String,
    cluster_domain: String,
    load_balancer_pool: Vec<String>,
    node_monitor_grace_period: u64,
    node_eviction_rate: f64,
    secondary_node_eviction_rate: f64,
    unhealthy_zone_threshold: f64,
    large_cluster_size_threshold: usize,
    default_not_ready_toleration_seconds: u32,
    default_unreachable_toleration_seconds: u32,
}

impl Shared {
    /// Those of a node.
    pub fn of(config: &Config) -> Self {
        Self {
            pod_cidr: config.pod_cidr.to_string(),
            service_cidr: config.service_cidr.to_string(),
            node_cidr_mask_size: config.node_cidr_mask_size,
            node_cidr_mask_size_ipv6: config.node_cidr_mask_size_ipv6,
            cluster_dns: config.dns_ip().to_string(),
            cluster_domain: config.cluster_domain.clone(),
            load_balancer_pool: config
                .load_balancer_pools
                .iter()
                .map(ToString::to_string)
                .collect(),
            node_monitor_grace_period: config.node_monitor_grace_period.as_secs(),
            node_eviction_rate: config.eviction_pace.rate,
            secondary_node_eviction_rate: config.eviction_pace.secondary_rate,
            unhealthy_zone_threshold: config.eviction_pace.unhealthy_share,
            large_cluster_size_threshold: config.eviction_pace.small_zone_max,
            default_not_ready_toleration_seconds: config.not_ready_toleration_seconds,
            default_unreachable_toleration_seconds: config.unreachable_toleration_seconds,
        }
    }

    /// Makes them a node's own.
    ///
    /// # Errors
    /// When one makes no sense, or the node was told another value.
    fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        let told = serde_json::to_value(Self::of(config))?;
        let default = serde_json::to_value(Self::of(&Config::new(&config.data_dir)))?;
        let given = serde_json::to_value(self)?;
        for (key, given) in given.as_object().into_iter().flatten() {
            if told[key] != *given && told[key] != default[key] {
                bail!(
                    "--{key} {} is not what the cluster has, {}: leave it out",
                    plain(&told[key]),
                    plain(given)
                );
            }
        }
        let read = |key: &'static str| move || format!("the cluster's {key} makes no sense");
        config.pod_cidr = self.pod_cidr.parse().with_context(read("pod-cidr"))?;
        config.service_cidr = self.service_cidr.parse().with_context(read("service-cidr"))?;
        config.cluster_dns = Some(self.cluster_dns.parse().with_context(read("cluster-dns"))?);
        let pools = self.load_balancer_pool.iter().map(|pool| pool.parse());
        config.load_balancer_pools = pools
            .collect::<Result<_, _>>()
            .with_context(read("load-balancer-pool"))?;
        config.node_cidr_mask_size = self.node_cidr_mask_size;
        config.node_cidr_mask_size_ipv6 = self.node_cidr_mask_size_ipv6;
        config.cluster_domain.clone_from(&self.cluster_domain);
        config.node_monitor_grace_period = std::time::Duration::from_secs(self.node_monitor_grace_period);
        config.eviction_pace = EvictionPace {
            rate: self.node_eviction_rate,
            secondary_rate: self.secondary_node_eviction_rate,
            unhealthy_share: self.unhealthy_zone_threshold,
            small_zone_max: self.large_cluster_size_threshold,
        };
        config.not_ready_toleration_seconds = self.default_not_ready_toleration_seconds;
        config.unreachable_toleration_seconds = self.default_unreachable_toleration_seconds;
        Ok(())
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Cluster {
    /// What another server handed over.
    ///
    /// # Errors
    /// When this version does not understand its settings.
    pub fn new(id: String, settings: Value) -> anyhow::Result<Self> {
        let settings = serde_json::from_value(settings)
            .context("the server's settings are not understood: use the same version of coracle")?;
        Ok(Self {
            version: VERSION,
            id,
            witness: None,
            settings,
        })
    }

    /// What the folder holds, if a server joined from it.
    ///
    /// # Errors
    /// When it cannot be read or was written by a newer version.
    pub fn read(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        if value["version"]
            .as_u64()
            .is_some_and(|found| found > VERSION.into())
        {
            bail!(
                "{} was written by a newer version: use a newer coracle",
                path.display()
            );
        }
        let read = serde_json::from_value(value);
        read.map(Some)
            .with_context(|| format!("{} is damaged", path.display()))
    }

    /// Keeps it, so that it survives a power cut.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let path = data_dir.join(FILE);
        base::files::replace(&path, &serde_json::to_vec_pretty(self)?, 0o600, true)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes the cluster's settings a node's own.
    ///
    /// # Errors
    /// When the node was told another value of one.
    pub fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        self.settings.apply(config)
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// When it is no hexadecimal number.
    pub fn number(&self) -> anyhow::Result<u64> {
        u64::from_str_radix(&self.id, 16).with_context(|| format!("{:?} is no cluster's id", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_server_takes_the_clusters_settings() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Config::new("/first");
        first.pod_cidr = "10.100.0.0/16".parse().unwrap();
        first.node_cidr_mask_size = 24;
        first.load_balancer_pools = vec!["192.0.2.100-192.0.2.120".parse().unwrap()];
        let handed = serde_json::to_value(Shared::of(&first)).unwrap();
        let cluster = Cluster::new("c1".into(), handed).unwrap();
        assert_eq!(Cluster::read(dir.path()).unwrap(), None);
        cluster.write(dir.path()).unwrap();
        let cluster = Cluster::read(dir.path()).unwrap().unwrap();
        assert_eq!(cluster.number().unwrap(), 0xc1);

        let mut second = Config::new("/second");
        cluster.apply(&mut second).unwrap();
        assert_eq!(Shared::of(&second), Shared::of(&first));
        // Said again it is no contradiction; said otherwise it is.
        cluster.apply(&mut second).unwrap();
        second.node_cidr_mask_size = 25;
        let why = cluster.apply(&mut second).unwrap_err().to_string();
        assert!(
            why.contains("--node-cidr-mask-size 25 is not what the cluster has, 24"),
            "{why}"
        );
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"version": 2}"#).unwrap();
        assert!(
            Cluster::read(dir.path())
                .unwrap_err()
                .to_string()
                .contains("newer")
        );
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(Cluster::read(dir.path()).is_err());
    }
}
