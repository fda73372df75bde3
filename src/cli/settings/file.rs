//! The configuration file: flags, written as YAML.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Args, Command, FromArgMatches};
use serde::Deserialize;

/// What stands behind a key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    One(Scalar),
    List(Vec<Scalar>),
}

/// A value that a flag could have.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Whole(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

/// The settings that a file holds.
///
/// # Errors
/// When it cannot be read, is not YAML, or has a key or a value that is no setting; the text names it.
pub(super) fn read<S: Args + FromArgMatches>(path: &Path) -> anyhow::Result<S> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

fn parse<S: Args + FromArgMatches>(yaml: &str) -> anyhow::Result<S> {
    // A file of comments alone is a file without settings.
    let entries: Option<BTreeMap<String, Entry>> = serde_saphyr::from_str(yaml)?;
    let command = S::augment_args(Command::new("settings").no_binary_name(true));
    let mut flags = Vec::new();
    for (key, entry) in entries.unwrap_or_default() {
        if !command.get_arguments().any(|flag| flag.get_long() == Some(&key)) {
            bail!("{key} is no setting: `coracle up --help` lists them all");
        }
        let values = match entry {
            Entry::One(value) => vec![value],
            Entry::List(values) => values,
        };
        flags.extend(values.iter().map(|value| format!("--{key}={}", value.text())));
    }
    let matches = command.try_get_matches_from(flags).map_err(first_line)?;
    Ok(S::from_arg_matches(&matches)?)
}

/// What is wrong with a value, without advice on command lines.
fn first_line(error: clap::Error) -> anyhow::Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    anyhow::anyhow!("{}", line.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::Settings;
    use crate::config::Config;

    fn config(yaml: &str) -> anyhow::Result<Config> {
        parse::<Settings>(yaml)?.into_config("/x".into())
    }

    #[test]
    fn keys_are_flag_names() {
        let read =
            config("pod-cidr: 10.80.0.0/16\nnode-cidr-mask-size: 24\nlisten: 7443\nwitness: true\n").unwrap();
        assert_eq!(read.pod_cidr.to_string(), "10.80.0.0/16");
        assert_eq!((read.node_cidr_mask_size, read.listen.port), (24, 7443));
        assert!(read.witness && !config("witness: false").unwrap().witness);
        assert_eq!(
            config("node-eviction-rate: 0.25").unwrap().eviction_pace.rate,
            0.25
        );
        assert_eq!(config("# nothing yet\n").unwrap().listen.port, 6443);
    }

    #[test]
    fn a_list_is_one_or_many() {
        for yaml in ["tls-san: a,b", "tls-san: [a, b]", "tls-san:\n- a\n- b\n"] {
            assert_eq!(config(yaml).unwrap().tls_sans, ["a", "b"], "{yaml}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |yaml| format!("{:#}", config(yaml).unwrap_err());
        assert!(wrong("pod-cdir: 10.80.0.0/16\n").contains("pod-cdir is no setting"));
        let value = wrong("max-pods: many\n");
        assert!(value.contains("many") && value.contains("--max-pods"), "{value}");
        assert!(wrong("max-pods: {a: 1}\n").contains("max-pods"));
        assert!(wrong("listen: 1\nlisten: 2\n").contains("listen"));
    }

    #[test]
    fn flags_win_over_the_file_one_by_one() {
        let path = std::env::temp_dir().join(format!("settings-{}.yaml", std::process::id()));
        std::fs::write(
            &path,
            "node-name: file\ncluster-domain: edge.local\ntls-san: [a]\nwitness: true\n",
        )
        .unwrap();
        let command = Settings::augment_args(Command::new("up"));
        let given = command.get_matches_from(["up", "--node-name", "flag", "--tls-san=b"]);
        let settings = Settings::from_arg_matches(&given)
            .unwrap()
            .over_file(&path, &given)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let config = settings.into_config("/x".into()).unwrap();
        assert_eq!(
            (config.node_name.as_str(), config.cluster_domain.as_str()),
            ("flag", "edge.local")
        );
        assert!(config.witness);
        assert_eq!(config.tls_sans, ["b"]);
    }
}
