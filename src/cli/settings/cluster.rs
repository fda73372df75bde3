//! Which cluster the node belongs to, and what its servers take upon themselves.

use std::path::PathBuf;

use super::set::{set, set_seconds};
use crate::config::{Config, Switches};

/// Joining, and the limits of store and API.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Cluster {
    /// Server to join (`agent` only), such as https://10.0.0.5:6443
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,

    /// Server whose cluster to join as a further server (`server` and `up`), such as https://10.0.0.5:6443
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,

    /// Join as a witness (`server` only): vote and keep the log, so that two full servers go on when one is lost;
    /// a small machine will do
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub witness: Option<bool>,

    /// File with the token to join with: the server's agent-token for `agent`, its server-token for --join
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Bytes that the store may take, history included, before writes that grow are refused; 0 for no limit
    /// [default: 2147483648]
    #[arg(long, value_name = "BYTES")]
    pub quota_bytes: Option<u64>,

    /// Seconds for which what was is kept for watches and lists, at least; twice that at most [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub compaction_interval: Option<u64>,

    /// Which versions of the API are served, such as `networking.k8s.io/v1beta1=true`, `batch/v1=false` or
    /// `api/beta=true`; a list, the same on every server
    #[arg(long, value_name = "KEY=BOOL", value_delimiter = ',')]
    pub runtime_config: Vec<String>,

    /// Most requests that only read and are carried out at once; with those that write they are the seats that
    /// priority levels share [default: 400]
    #[arg(long, value_name = "COUNT")]
    pub max_requests_inflight: Option<u32>,

    /// The same for requests that change something [default: 200]
    #[arg(long, value_name = "COUNT")]
    pub max_mutating_requests_inflight: Option<u32>,

    /// Most watches of all clients together; half of them for one user [default: 100000]
    #[arg(long, value_name = "COUNT")]
    pub max_watches: Option<usize>,

    /// Seconds for which the server goes on answering after it was told to end, while it says that it is not ready, so
    /// that others stop asking it [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_delay_duration: Option<u64>,
}

impl Cluster {
    /// Puts these settings into the configuration.
    ///
    /// # Errors
    /// When there is no such version of the API; the text says which there are.
    pub(super) fn apply(self, config: &mut Config) -> anyhow::Result<()> {
        config.server = self.server;
        config.join = self.join;
        set(&mut config.witness, self.witness);
        config.token_file = self.token_file;
        set(&mut config.quota_bytes, self.quota_bytes);
        let interval = self.compaction_interval.map(|seconds| seconds.max(1));
        set_seconds(&mut config.compaction_interval, interval);
        set(
            &mut config.inflight.reading,
            self.max_requests_inflight.map(Into::into),
        );
        set(
            &mut config.inflight.mutating,
            self.max_mutating_requests_inflight.map(Into::into),
        );
        set(&mut config.watches_max, self.max_watches);
        set_seconds(&mut config.shutdown_delay, self.shutdown_delay_duration);
        let switches = Switches::parse(&self.runtime_config);
        config.switches = switches.map_err(|why| anyhow::anyhow!("--runtime-config: {why}"))?;
        Ok(())
    }
}
