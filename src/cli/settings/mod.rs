//! The settings of `up`, `server` and `agent`.
//!
//! One definition gives the flags, the keys of `--config FILE` and the help:
//! a flag `--pod-cidr` is the key `pod-cidr`. A flag wins over the file, the
//! file over the default; a key that is no flag is an error. Each file here
//! has the flags of one heading of the help, and what they are in [`Config`].

mod access;
mod cluster;
mod file;
mod images;
mod loss;
mod network;
mod node;
mod safety;
mod set;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{ArgMatches, FromArgMatches};

use crate::config::Config;

/// Where the state lives, shared by all verbs.
#[derive(clap::Args, Clone, Debug)]
pub struct DataDir {
    /// Folder for everything this node keeps
    #[arg(
        long,
        value_name = "DIR",
        env = "CORACLE_DATA_DIR",
        default_value = "/var/lib/coracle"
    )]
    pub data_dir: PathBuf,
}

/// How a node runs; every field of its groups is a flag and a key of the configuration file.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Settings {
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    cluster: cluster::Cluster,
    #[command(flatten)]
    node: node::Node,
    #[command(flatten)]
    images: images::Images,
    #[command(flatten)]
    loss: loss::Loss,
    #[command(flatten)]
    access: access::Access,
    #[command(flatten)]
    safety: safety::Safety,
}

impl Settings {
    /// These settings, where they are silent those of a file. `given` is what
    /// the command line said of the verb.
    ///
    /// # Errors
    /// When the file cannot be read, is not YAML, or has a key or a value that is no setting.
    pub fn over_file(self, path: &Path, given: &ArgMatches) -> anyhow::Result<Self> {
        let mut settings: Self = file::read(path)?;
        settings.update_from_arg_matches(given)?;
        Ok(settings)
    }

    /// The complete configuration these settings ask for.
    ///
    /// # Errors
    /// When two settings contradict each other; the text says which and what to do.
    pub fn into_config(self, data_dir: PathBuf) -> anyhow::Result<Config> {
        let mut config = Config::new(data_dir);
        self.network.apply(&mut config);
        self.cluster.apply(&mut config)?;
        self.node.apply(&mut config)?;
        self.images.apply(&mut config.images)?;
        self.loss.apply(&mut config)?;
        config.authentication = self.access.authentication();
        config.authorization = self.access.authorization();
        config.safety = self.safety.read()?;
        if let Err(why) = config.check() {
            bail!(why);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_line_in_the_docs() {
        let docs = include_str!("../../../docs/settings.md");
        let command = <Settings as clap::Args>::augment_args(clap::Command::new("coracle"));
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let missing: Vec<&str> = flags
            .filter(|flag| !docs.contains(&format!("`{flag}`")))
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "add them to docs/settings.md");
    }
}
