//! Configuration files that are read again whenever they change, under the metrics of Kubernetes' names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::telemetry::Metrics;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How often a file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Reads the text of a configuration of that kind in `apiserver.config.k8s.io`, in any of its versions.
///
/// # Errors
/// When it is something else.
pub fn structured<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, String> {
    let wrong = |error: serde_saphyr::Error| error.to_string();
    let head: Head = serde_saphyr::from_str(text).map_err(wrong)?;
    let versions = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if head.kind == kind && versions.contains(&head.api_version) {
        return serde_saphyr::from_str(text).map_err(wrong);
    }
    Err(format!(
        "expected an {kind} of {}, found {:?} of {:?}",
        versions.join(" or "),
        head.kind,
        head.api_version
    ))
}

/// How every such file begins.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: String,
    kind: String,
}

/// A file, and what it said when it was last read.
pub struct Followed {
    path: PathBuf,
    known: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: &'static str,
}

/// What is counted of the reading of one file.
#[derive(Clone)]
pub struct Reloads {
    total: Family<Outcome, Counter>,
    last: Family<Outcome, Gauge>,
}

impl Reloads {
    /// Those of `authentication`, `authorization` or `encryption`.
    pub fn new(metrics: &Metrics, of: &str) -> Self {
        let name = |what: &str| format!("apiserver_{of}_config_controller_automatic_reload{what}");
        Self {
            total: metrics.add(
                &name("s"),
                "Total number of automatic reloads of the configuration split by status",
                Family::default(),
            ),
            last: metrics.add(
                &name("_last_timestamp_seconds"),
                "Timestamp of the last automatic reload of the configuration split by status",
                Family::default(),
            ),
        }
    }

    fn count(&self, status: &'static str) {
        let outcome = Outcome { status };
        self.total.get_or_create(&outcome).inc();
        self.last
            .get_or_create(&outcome)
            .set(Timestamp::now().as_second());
    }
}

impl Followed {
    /// Reads a file for the first time, and has it taken in.
    ///
    /// # Errors
    /// What is wrong with it, with its path.
    pub fn read(path: &Path, take: impl FnOnce(&str) -> Result<(), String>) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let known = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        take(&known).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            known,
        })
    }

    /// Has it taken in again whenever it changes, for ever. What makes no sense changes nothing, and is told of once.
    pub async fn follow(mut self, reloads: Reloads, take: impl Fn(&str) -> Result<(), String>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let Ok(text) = tokio::fs::read_to_string(&self.path).await else {
                continue;
            };
            if text == self.known {
                continue;
            }
            let path = self.path.display();
            match take(&text) {
                Ok(()) => {
                    reloads.count("success");
                    tracing::info!(%path, "a configuration was read anew");
                }
                Err(why) => {
                    reloads.count("failure");
                    tracing::error!(why, %path, "what was configured before goes on: the file makes no sense");
                }
            }
            self.known = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn changes_are_taken_in_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let taken = seen.clone();
        let take = move |text: &str| {
            taken
                .lock()
                .unwrap()
                .push(text.parse().map_err(|_| "no number".to_owned())?);
            Ok(())
        };
        let followed = Followed::read(&file, &take).unwrap();
        let metrics = Metrics::new();
        let task = tokio::spawn(followed.follow(Reloads::new(&metrics, "authorization"), take));
        let name = "apiserver_authorization_config_controller_automatic_reloads_total";
        for (text, counted) in [("x", "{status=\"failure\"} 1"), ("2", "{status=\"success\"} 1")] {
            std::fs::write(&file, text).unwrap();
            while !metrics.encode().contains(&format!("{name}{counted}")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        task.abort();
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
        let missing = Followed::read(&dir.path().join("none"), |_| Ok(()));
        assert!(missing.err().unwrap().contains("none: No such file"));
    }
}
