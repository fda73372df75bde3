//! The structured configuration of authorisation (`apiserver.config.k8s.io`), as its file says it, and the settings
//! that say the same in short.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::go;
use serde::Deserialize;

use crate::reload::structured;

/// The longest that a webhook may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// For how long a yes is remembered, and a no, if nobody says.
const AUTHORIZED_TTL: Duration = Duration::from_secs(300);
const UNAUTHORIZED_TTL: Duration = Duration::from_secs(30);
/// The name of the webhook that the short settings name.
const DEFAULT_NAME: &str = "default";

/// What the settings say of authorisation.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationSettings {
    /// File with an `AuthorizationConfiguration`; the others must not be set beside it.
    pub config: Option<PathBuf>,
    /// Authorisers in their order, such as `Node,RBAC`; `None` for these two.
    pub modes: Option<Vec<String>>,
    /// File in the form of a kubeconfig that leads to the one who is asked in the mode `Webhook`.
    pub webhook: Option<PathBuf>,
    /// Seconds for which a yes of theirs is remembered; 300 if it is not set.
    pub authorized_ttl: Option<u64>,
    /// Seconds for which a no is; 30 if it is not set.
    pub unauthorized_ttl: Option<u64>,
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AuthorizationConfiguration {
    /// `apiserver.config.k8s.io/v1`, or one of its betas.
    pub api_version: String,
    /// `AuthorizationConfiguration`.
    pub kind: String,
    /// In the order in which they are asked.
    pub authorizers: Vec<Told>,
}

/// One authoriser.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Told {
    /// `Node`, `RBAC`, `Webhook`, `AlwaysAllow` or `AlwaysDeny`.
    #[serde(rename = "type")]
    pub sort: String,
    /// How metrics and logs call it.
    pub name: String,
    /// Of a webhook.
    pub webhook: Option<ToldWebhook>,
}

/// A webhook.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ToldWebhook {
    /// How long a yes is remembered, as a duration of Go's.
    #[serde(rename = "authorizedTTL")]
    pub authorized_ttl: String,
    /// Whether a yes is remembered at all; it is, if it does not say.
    pub cache_authorized_requests: Option<bool>,
    /// How long a no is remembered.
    #[serde(rename = "unauthorizedTTL")]
    pub unauthorized_ttl: String,
    /// Whether a no is remembered at all.
    pub cache_unauthorized_requests: Option<bool>,
    /// How long an answer is waited for.
    pub timeout: String,
    /// `v1`, or `v1beta1`, of the question.
    pub subject_access_review_version: String,
    /// `v1`, of what conditions see.
    pub match_condition_subject_access_review_version: String,
    /// `NoOpinion` or `Deny`: what it means when nobody answers.
    pub failure_policy: String,
    /// Where it is.
    pub connection_info: Connection,
    /// Which requests it is asked about: those of which all of these are true.
    pub match_conditions: Vec<Condition>,
}

/// Where a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Connection {
    /// `KubeConfigFile`.
    #[serde(rename = "type")]
    pub sort: String,
    /// The file that leads to it.
    pub kube_config_file: String,
}

/// An expression over `request`, the specification of a SubjectAccessReview.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Condition {
    /// The expression.
    pub expression: String,
}

impl AuthorizationConfiguration {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read: Self = structured(text, "AuthorizationConfiguration")?;
        read.checked()
    }

    /// What the short settings say.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn of(settings: &AuthorizationSettings) -> Result<Self, String> {
        let modes = settings.modes.clone();
        let modes = modes.unwrap_or_else(|| ["Node", "RBAC"].map(str::to_owned).to_vec());
        let webhook = modes.iter().any(|mode| mode == "Webhook");
        match (&settings.webhook, webhook) {
            (None, true) => {
                return Err("authorization-mode's authorization policy Webhook requires \
                            authorization-webhook-config-file"
                    .into());
            }
            (Some(_), false) => {
                return Err("cannot specify authorization-webhook-config-file without mode Webhook".into());
            }
            _ => {}
        }
        let told = |mode: &String| match mode == "Webhook" {
            true => settings.webhook(mode),
            false => Told {
                sort: mode.clone(),
                name: mode.to_lowercase(),
                webhook: None,
            },
        };
        let authorizers = modes.iter().map(told).collect();
        Self {
            authorizers,
            ..Self::default()
        }
        .checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.authorizers.is_empty() {
            return Err(
                "authorizers: Required value: at least one authorization mode must be defined".into(),
            );
        }
        let (mut names, mut sorts) = (BTreeSet::new(), BTreeSet::new());
        for (at, told) in self.authorizers.iter().enumerate() {
            told.check().map_err(|why| format!("authorizers[{at}].{why}"))?;
            if !names.insert(&told.name) {
                return Err(format!(
                    "authorizers[{at}].name: Duplicate value: {:?}",
                    told.name
                ));
            }
            if !sorts.insert(&told.sort) && told.sort != "Webhook" {
                return Err(format!(
                    "authorizers[{at}].type: Duplicate value: {:?}",
                    told.sort
                ));
            }
        }
        Ok(self)
    }
}

impl AuthorizationSettings {
    fn webhook(&self, mode: &str) -> Told {
        let seconds = |of: Option<u64>, default: Duration| format!("{}s", of.unwrap_or(default.as_secs()));
        let file = self.webhook.as_deref().unwrap_or(Path::new(""));
        Told {
            sort: mode.to_owned(),
            name: DEFAULT_NAME.to_owned(),
            webhook: Some(ToldWebhook {
                authorized_ttl: seconds(self.authorized_ttl, AUTHORIZED_TTL),
                unauthorized_ttl: seconds(self.unauthorized_ttl, UNAUTHORIZED_TTL),
                timeout: "30s".into(),
                subject_access_review_version: "v1".into(),
                match_condition_subject_access_review_version: "v1".into(),
                failure_policy: "NoOpinion".into(),
                connection_info: Connection {
                    sort: "KubeConfigFile".into(),
                    kube_config_file: file.display().to_string(),
                },
                ..ToldWebhook::default()
            }),
        }
    }
}

impl Told {
    fn check(&self) -> Result<(), String> {
        let known = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
        if !known.contains(&self.sort.as_str()) {
            return Err(format!(
                "type: Unsupported value: {:?}: supported values: {}",
                self.sort,
                known.join(", ")
            ));
        }
        if self.name.is_empty() {
            return Err("name: Required value".into());
        }
        match (self.sort.as_str(), &self.webhook) {
            ("Webhook", None) => Err("webhook: Required value: required when type=Webhook".into()),
            ("Webhook", Some(webhook)) => webhook.check().map_err(|why| format!("webhook.{why}")),
            (_, Some(_)) => Err("webhook: Invalid value: may only be specified when type=Webhook".into()),
            (_, None) => Ok(()),
        }
    }
}

impl ToldWebhook {
    fn check(&self) -> Result<(), String> {
        let one_of = |field: &str, value: &str, known: &[&str]| match value {
            "" => Err(format!("{field}: Required value")),
            value if known.contains(&value) => Ok(()),
            value => Err(format!(
                "{field}: Unsupported value: {value:?}: supported values: {}",
                known.join(", ")
            )),
        };
        if self.timeout()? > TIMEOUT_MAX {
            return Err(format!(
                "timeout: Invalid value: {:?}: must be <= 30s",
                self.timeout
            ));
        }
        self.authorized()?;
        self.unauthorized()?;
        one_of(
            "subjectAccessReviewVersion",
            &self.subject_access_review_version,
            &["v1", "v1beta1"],
        )?;
        if !self.match_conditions.is_empty() {
            let version = &self.match_condition_subject_access_review_version;
            one_of("matchConditionSubjectAccessReviewVersion", version, &["v1"])?;
        }
        one_of("failurePolicy", &self.failure_policy, &["NoOpinion", "Deny"])?;
        // Whoever is inside the cluster is asked with a service account's files; this server has none.
        one_of(
            "connectionInfo.type",
            &self.connection_info.sort,
            &["KubeConfigFile"],
        )?;
        if self.connection_info.kube_config_file.is_empty() {
            return Err("connectionInfo.kubeConfigFile: Required value".into());
        }
        Ok(())
    }

    /// How long an answer is waited for.
    pub fn timeout(&self) -> Result<Duration, String> {
        match self.timeout.as_str() {
            "" => Err("timeout: Required value".into()),
            text => positive("timeout", text),
        }
    }

    /// How long a yes is remembered.
    pub fn authorized(&self) -> Result<Duration, String> {
        ttl(
            "authorizedTTL",
            &self.authorized_ttl,
            AUTHORIZED_TTL,
            self.cache_authorized_requests,
        )
    }

    /// How long a no is remembered.
    pub fn unauthorized(&self) -> Result<Duration, String> {
        let kept = self.cache_unauthorized_requests;
        ttl("unauthorizedTTL", &self.unauthorized_ttl, UNAUTHORIZED_TTL, kept)
    }
}

fn ttl(field: &str, text: &str, default: Duration, kept: Option<bool>) -> Result<Duration, String> {
    let told = match text {
        "" => default,
        text => positive(field, text)?,
    };
    Ok(if kept == Some(false) { Duration::ZERO } else { told })
}

fn positive(field: &str, text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("{field}: Invalid value: {text:?}: {why}");
    let time = go::parse_duration(text).ok_or_else(|| wrong("must be a duration such as 5m30s"))?;
    match time.is_zero() {
        true => Err(wrong("must be > 0s")),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests;
