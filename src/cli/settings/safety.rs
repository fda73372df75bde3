//! Settings of what is admitted, recorded and encrypted.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use apiserver::admission;
use apiserver::audit::{AuditSettings, FileSettings, WebhookSettings};

use crate::config;

/// Admission, the audit log, encryption at rest.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Admission, audit, encryption")]
pub struct Safety {
    /// File with admission plugins' configuration (PodSecurity: defaults and exemptions) [default: none]
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,

    /// File with the policy of the audit log (audit.k8s.io/v1) [default: no log]
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,

    /// File that audit events go to, `-` for standard output [default: none]
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,

    /// Megabytes at which the audit log is put aside [default: 100]
    #[arg(long, value_name = "MEGABYTES")]
    pub audit_log_maxsize: Option<u64>,

    /// Audit logs put aside that are kept; 0 for all [default: 0]
    #[arg(long, value_name = "COUNT")]
    pub audit_log_maxbackup: Option<usize>,

    /// Days that audit logs put aside are kept; 0 for ever [default: 0]
    #[arg(long, value_name = "DAYS")]
    pub audit_log_maxage: Option<u64>,

    /// Take the objects of request and answer out of events that are too large for the audit log [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_log_truncate_enabled: Option<bool>,

    /// Bytes from which on an event is too large for the audit log [default: 102400]
    #[arg(long, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: Option<usize>,

    /// File in kubeconfig format that names the server and authority of a webhook for audit events, and as whom it is
    /// told [default: none]
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,

    /// Most events that are sent to the webhook together [default: 400]
    #[arg(long, value_name = "COUNT")]
    pub audit_webhook_batch_max_size: Option<usize>,

    /// Seconds that an event waits for others before it is sent [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub audit_webhook_batch_max_wait: Option<u64>,

    /// Take the objects of request and answer out of events that are too large for the webhook [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub audit_webhook_truncate_enabled: Option<bool>,

    /// Bytes from which on an event is too large for the webhook [default: 102400]
    #[arg(long, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: Option<usize>,

    /// Most bytes that are sent to the webhook together [default: 10485760]
    #[arg(long, value_name = "BYTES")]
    pub audit_webhook_truncate_max_batch_size: Option<usize>,

    /// File that says which resources are kept encrypted, and with which keys [default: none]
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
}

impl Safety {
    /// What these settings say of admission, the audit log and encryption.
    ///
    /// # Errors
    /// When a file cannot be read, or settings lack others; the text says which.
    pub(super) fn read(&self) -> anyhow::Result<config::Safety> {
        let mut safety = config::Safety {
            audit: self.audit()?,
            encryption: self.encryption_provider_config.clone(),
            ..config::Safety::default()
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
            event_bytes_max: cut(
                self.audit_log_truncate_enabled,
                self.audit_log_truncate_max_event_size,
            ),
        });
        let webhook = self
            .audit_webhook_config_file
            .clone()
            .map(|config| WebhookSettings {
                config,
                batch_max: self.audit_webhook_batch_max_size.unwrap_or(400).max(1),
                batch_bytes_max: self.audit_webhook_truncate_max_batch_size.unwrap_or(10 << 20),
                event_bytes_max: cut(
                    self.audit_webhook_truncate_enabled,
                    self.audit_webhook_truncate_max_event_size,
                ),
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

/// The size beyond which events are cut, if they are.
fn cut(enabled: Option<bool>, bytes_max: Option<usize>) -> Option<usize> {
    enabled
        .unwrap_or_default()
        .then_some(bytes_max.unwrap_or(100 << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_needs_a_policy_and_a_policy_a_log() {
        let none = Safety::default();
        assert!(none.read().unwrap().audit.policy.is_none());
        let policy = Safety {
            audit_policy_file: Some("p".into()),
            ..Safety::default()
        };
        assert!(
            policy
                .read()
                .unwrap_err()
                .to_string()
                .contains("needs audit-log-path")
        );
        let both = Safety {
            audit_log_path: Some("-".into()),
            audit_log_maxsize: Some(2),
            ..policy
        };
        let file = both.read().unwrap().audit.file.unwrap();
        assert_eq!((file.bytes_max, file.event_bytes_max), (2 << 20, None));
        let cut = Safety {
            audit_log_truncate_enabled: Some(true),
            ..both
        };
        let file = cut.read().unwrap().audit.file.unwrap();
        assert_eq!(file.event_bytes_max, Some(102_400));
    }
}
