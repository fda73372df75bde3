//! The configuration file, read when the server starts and again whenever it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Vault;
use super::configuration::Configuration;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

impl Vault {
    /// Writes by this file from now on; returns its text, for [`follow`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure_from(&self, path: &Path) -> Result<String, String> {
        let wrong = |why: String| format!("encryption-provider-config {}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        self.configure(Configuration::parse(&text).map_err(wrong)?);
        Ok(text)
    }
}

/// Reads the file again whenever it changes, for ever. One that makes no sense changes nothing, and is told of once.
pub async fn follow(vault: Vault, path: PathBuf, mut known: String) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Ok(text) = tokio::fs::read_to_string(&path).await else {
            continue;
        };
        if text == known {
            continue;
        }
        match Configuration::parse(&text) {
            Ok(new) => {
                vault.configure(new);
                tracing::info!(path = %path.display(), "keys were read anew");
            }
            Err(why) => {
                tracing::error!(why, path = %path.display(), "the old keys go on: the file makes no sense")
            }
        }
        known = text;
    }
}
