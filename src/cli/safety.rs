//! Settings of what is admitted, recorded and encrypted.

use std::time::Duration;

use anyhow::bail;
use apiserver::admission;
use apiserver::audit::{AuditSettings, FileSettings, WebhookSettings};

use super::Settings;
use crate::config::Safety;

impl Settings {
    /// What these settings say of admission, the audit log and encryption.
    ///
    /// # Errors
    /// When a file cannot be read, or settings lack others; the text says which.
    pub(super) fn safety(&self) -> anyhow::Result<Safety> {
        let mut safety = Safety {
            audit: self.audit()?,
            encryption: self.encryption_provider_config.clone(),
            ..Safety::default()
        };
        if let Some(path) = &self.admission_control_config_file {
            let read = admission::configuration::read(path);
            safety.pod_security = read
                .map_err(|why| anyhow::anyhow!("admission-control-config-file {}: {why}", path.display()))?;
        }
        Ok(safety)
    }

    fn audit(&self) -> anyhow::Result<AuditSettings> {
        let file = self.audit_log_path.clone().map(|path| FileSettings {
            path,
            bytes_max: self.audit_log_maxsize.unwrap_or(100).max(1) << 20,
            backups_max: self.audit_log_maxbackup.unwrap_or(0),
            days_max: self.audit_log_maxage.unwrap_or(0),
        });
        let webhook = self
            .audit_webhook_config_file
            .clone()
            .map(|config| WebhookSettings {
                config,
                batch_max: self.audit_webhook_batch_max_size.unwrap_or(400).max(1),
                wait_max: Duration::from_secs(self.audit_webhook_batch_max_wait.unwrap_or(30)),
                back_off: Duration::from_secs(10),
            });
        let somewhere = file.is_some() || webhook.is_some();
        match (&self.audit_policy_file, somewhere) {
            (Some(_), false) => bail!("audit-policy-file needs audit-log-path or audit-webhook-config-file"),
            (None, true) => bail!("audit-log-path and audit-webhook-config-file need audit-policy-file"),
            _ => {}
        }
        Ok(AuditSettings {
            policy: self.audit_policy_file.clone(),
            file,
            webhook,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_needs_a_policy_and_a_policy_a_log() {
        let none = Settings::default();
        assert!(none.safety().unwrap().audit.policy.is_none());
        let policy = Settings {
            audit_policy_file: Some("p".into()),
            ..Settings::default()
        };
        assert!(
            policy
                .safety()
                .unwrap_err()
                .to_string()
                .contains("needs audit-log-path")
        );
        let both = Settings {
            audit_log_path: Some("-".into()),
            audit_log_maxsize: Some(2),
            ..policy
        };
        assert_eq!(both.safety().unwrap().audit.file.unwrap().bytes_max, 2 << 20);
    }
}
