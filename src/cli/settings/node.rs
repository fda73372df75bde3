//! The machine as a node: its name, and what pods may use of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::set::{set, set_seconds};
use crate::config::{Addresses, Config};

/// Name, limits of pods, and when they have to go.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Node")]
pub struct Node {
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node, and after a comma one of IPv6 [default: those that lead to the default route]
    #[arg(long, value_name = "ADDR[,ADDR]")]
    pub node_ip: Option<Addresses>,

    /// Most pods on this node; give it a range of that size too [default: 4096]
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<u32>,

    /// Most processes and threads of one pod; 0 for no limit [default: 4096]
    #[arg(long, value_name = "NUMBER")]
    pub pod_pids_limit: Option<u64>,

    /// Who gets whole processors for itself: nobody (none), or containers of Guaranteed pods that ask for whole ones
    /// (static) [default: none]
    #[arg(long, value_name = "POLICY", value_parser = ["none", "static"])]
    pub cpu_manager_policy: Option<String>,

    /// Processors that no container gets for itself, such as 0,4-5; needed by the policy static [default: none]
    #[arg(long, value_name = "LIST")]
    pub reserved_cpus: Option<String>,

    /// Sysctls beyond the safe ones that pods may set, such as kernel.msg*,net.core.somaxconn [default: none]
    #[arg(long, value_name = "NAME,...")]
    pub allowed_unsafe_sysctls: Option<String>,

    /// Seconds before a crashed container's first restart; doubles up to five minutes [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub crash_back_off: Option<u64>,

    /// Size at which a container's log is rotated, such as 10Mi [default: 10Mi]
    #[arg(long, value_name = "QUANTITY")]
    pub container_log_max_size: Option<String>,

    /// Files that are kept of a container's log, the current one included [default: 5]
    #[arg(long, value_name = "NUMBER")]
    pub container_log_max_files: Option<u32>,

    /// Below what the node evicts pods, such as memory.available<100Mi,nodefs.available<10%
    /// [default: Kubernetes' own thresholds]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...")]
    pub eviction_hard: Option<String>,

    /// Seconds that a node goes on telling of pressure after it was relieved [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub eviction_pressure_transition_period: Option<u64>,

    /// Folder of pods that this machine runs by itself, a manifest in each file [default: none]
    #[arg(long, value_name = "FOLDER")]
    pub static_pod_path: Option<PathBuf>,

    /// Seconds that pods are given when this process is told to end; 0 leaves ordinary containers running
    /// [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_period: Option<u64>,

    /// Seconds of these that are kept for critical pods, which end last [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_period_critical_pods: Option<u64>,
}

impl Node {
    pub(super) fn apply(self, config: &mut Config) -> anyhow::Result<()> {
        self.limit(&mut config.limits)?;
        set(&mut config.node_name, self.node_name);
        config.node_ip = self.node_ip;
        set(&mut config.max_pods, self.max_pods);
        set_seconds(&mut config.crash_back_off, self.crash_back_off);
        config.static_pod_path = self.static_pod_path;
        let seconds = |given: Option<u64>| Duration::from_secs(given.unwrap_or(0));
        config.shutdown = agent::ShutdownGrace {
            total: seconds(self.shutdown_grace_period),
            critical: seconds(self.shutdown_grace_period_critical_pods),
        };
        Ok(())
    }

    fn limit(&self, limits: &mut agent::Limits) -> anyhow::Result<()> {
        set(&mut limits.pod_pids, self.pod_pids_limit);
        limits.reserved_cpus = self.reserved_cpus()?;
        if let Some(names) = &self.allowed_unsafe_sysctls {
            limits.sysctls = names.split(',').map(|name| name.trim().to_owned()).collect();
        }
        if let Some(text) = &self.container_log_max_size {
            let size = text.parse::<api::quantity::Quantity>();
            let size = size.with_context(|| format!("--container-log-max-size {text}"))?;
            limits.log_bytes = u64::try_from(size.value()).unwrap_or(0);
        }
        set(&mut limits.log_files, self.container_log_max_files);
        if let Some(text) = &self.eviction_hard {
            let thresholds = text.parse();
            limits.eviction_hard = thresholds.with_context(|| format!("--eviction-hard {text}"))?;
        }
        set_seconds(
            &mut limits.pressure_lasts,
            self.eviction_pressure_transition_period,
        );
        Ok(())
    }
}

impl Node {
    /// The processors that are kept from those who would have them alone; `None`: nobody has any alone.
    fn reserved_cpus(&self) -> anyhow::Result<Option<agent::CpuSet>> {
        let list = self.reserved_cpus.as_deref().unwrap_or_default();
        let reserved = list.parse::<agent::CpuSet>().map_err(anyhow::Error::msg);
        let reserved = reserved.with_context(|| format!("--reserved-cpus {list}"))?;
        match (self.cpu_manager_policy.as_deref(), reserved.is_empty()) {
            (Some("static"), false) => Ok(Some(reserved)),
            (Some("static"), true) => anyhow::bail!(
                "--cpu-manager-policy static needs --reserved-cpus: some processor must be left for all that share"
            ),
            (_, true) => Ok(None),
            (_, false) => {
                anyhow::bail!("--reserved-cpus means something only with --cpu-manager-policy static")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_checked() {
        let with = |node: Node| {
            let mut config = Config::new("/x");
            node.apply(&mut config)
                .and_then(|()| config.check().map_err(anyhow::Error::msg))
                .map(|()| config)
        };
        let some = |text: &str| Some(text.to_owned());
        let config = with(Node {
            container_log_max_size: some("1Mi"),
            eviction_hard: some("nodefs.available<20%"),
            ..Node::default()
        });
        let limits = config.unwrap().limits;
        assert_eq!(limits.log_bytes, 1 << 20);
        assert_eq!(limits.eviction_hard.to_string(), "nodefs.available<20%");
        let error = |node| format!("{:#}", with(node).unwrap_err());
        let size = Node {
            container_log_max_size: some("much"),
            ..Node::default()
        };
        assert!(error(size).contains("--container-log-max-size much"));
        let policy = |policy: &str, list: Option<&str>| Node {
            cpu_manager_policy: some(policy),
            reserved_cpus: list.map(str::to_owned),
            ..Node::default()
        };
        assert!(error(policy("static", None)).contains("needs --reserved-cpus"));
        assert!(error(policy("none", Some("0"))).contains("only with --cpu-manager-policy static"));
        assert!(error(policy("static", Some("x"))).contains("--reserved-cpus x"));
        let config = with(policy("static", Some("0-1"))).unwrap();
        assert_eq!(config.limits.reserved_cpus.unwrap().to_string(), "0-1");
        let files = Node {
            container_log_max_files: Some(1),
            ..Node::default()
        };
        assert!(error(files).contains("--container-log-max-files 1"));
        let signal = Node {
            eviction_hard: some("memory.free<1Gi"),
            ..Node::default()
        };
        assert!(error(signal).contains("memory.free"));
    }
}
