//! How a configuration tells of a plugin.

use std::time::Duration;

use api::go;
use serde::Deserialize;

use super::remote;

/// How a configuration tells of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToldKms {
    #[serde(default)]
    api_version: String,
    /// Its name, which stays with what is sealed.
    pub name: String,
    /// Its socket, such as `unix:///run/kms.sock`.
    pub endpoint: String,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    cachesize: Option<i64>,
}

/// How long a plugin's answer is waited for when the configuration does not say.
const PATIENCE: Duration = Duration::from_secs(3);

impl ToldKms {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not, in Kubernetes' words.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |field: &str, why: &str| Err(format!("kms.{field}: {why}"));
        match self.api_version.as_str() {
            "v2" => {}
            "" | "v1" => return wrong("apiVersion", "KMSv1 is deprecated and not served here: use v2"),
            other => {
                return wrong(
                    "apiVersion",
                    &format!("unsupported apiVersion {other} for KMS provider"),
                );
            }
        }
        if self.name.is_empty() || self.name.contains(':') {
            return wrong(
                "name",
                &format!("invalid KMS provider name {:?}, must not contain ':'", self.name),
            );
        }
        if self.cachesize.is_some() {
            return wrong("cachesize", "cachesize is not supported in v2");
        }
        remote::path(&self.endpoint).map_err(|why| format!("kms.{why}"))?;
        self.patience().map(drop)
    }

    /// How long its answers are waited for.
    ///
    /// # Errors
    /// When the configuration makes no sense of it.
    pub fn patience(&self) -> Result<Duration, String> {
        let Some(text) = &self.timeout else {
            return Ok(PATIENCE);
        };
        let told = go::parse_duration(text).filter(|told| !told.is_zero());
        told.ok_or_else(|| format!("kms.timeout: Invalid value: {text:?}: should be a positive value"))
    }
}
