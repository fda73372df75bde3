//! Settings of who is known, and who says whether they may.

use std::path::PathBuf;

use apiserver::authn::oidc::OidcSettings;
use apiserver::authz::config::AuthorizationSettings;

use crate::config::Authentication;

/// Who knows users besides the cluster, and who decides.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// File with an AuthenticationConfiguration: issuers of tokens (OIDC), and who may ask without credentials
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,

    /// File in the form of a kubeconfig that leads to a webhook which knows tokens
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,

    /// Issuer of tokens (OIDC); more than one go into authentication-config
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,

    /// Whom its tokens must be for
    #[arg(long, value_name = "NAME")]
    pub oidc_client_id: Option<String>,

    /// The claim that is the user's name [default: sub]
    #[arg(long, value_name = "CLAIM")]
    pub oidc_username_claim: Option<String>,

    /// What is put before it, `-` for nothing [default: the issuer and `#`, unless the claim is email]
    #[arg(long, value_name = "TEXT")]
    pub oidc_username_prefix: Option<String>,

    /// The claim that lists the user's groups [default: none]
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,

    /// What is put before each [default: nothing]
    #[arg(long, value_name = "TEXT")]
    pub oidc_groups_prefix: Option<String>,

    /// CLAIM=VALUE that tokens of the issuer must have; a list
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',')]
    pub oidc_required_claim: Vec<String>,

    /// Who signed the issuer's certificate, PEM [default: whom the machine trusts]
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,

    /// Who says whether users may, in this order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny [default: Node,RBAC]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    pub authorization_mode: Vec<String>,

    /// File with an AuthorizationConfiguration: who says whether users may, in which order
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,

    /// File in the form of a kubeconfig that leads to a webhook which is asked by SubjectAccessReview in the mode
    /// Webhook
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,

    /// Seconds for which its yes is remembered [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub authorization_webhook_cache_authorized_ttl: Option<u64>,

    /// Seconds for which its no is remembered [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub authorization_webhook_cache_unauthorized_ttl: Option<u64>,
}

impl Access {
    /// Who knows users besides the cluster.
    pub(super) fn authentication(&self) -> Authentication {
        let text = |of: &Option<String>| of.clone().unwrap_or_default();
        Authentication {
            config: self.authentication_config.clone(),
            token_webhook: self.authentication_token_webhook_config_file.clone(),
            oidc: OidcSettings {
                issuer_url: text(&self.oidc_issuer_url),
                client_id: text(&self.oidc_client_id),
                username_claim: text(&self.oidc_username_claim),
                username_prefix: text(&self.oidc_username_prefix),
                groups_claim: text(&self.oidc_groups_claim),
                groups_prefix: text(&self.oidc_groups_prefix),
                ca_file: self.oidc_ca_file.clone(),
                required_claims: self.oidc_required_claim.clone(),
            },
        }
    }

    /// Who says whether users may.
    pub(super) fn authorization(&self) -> AuthorizationSettings {
        let modes = self.authorization_mode.clone();
        AuthorizationSettings {
            config: self.authorization_config.clone(),
            modes: (!modes.is_empty()).then_some(modes),
            webhook: self.authorization_webhook_config_file.clone(),
            authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
            unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
        }
    }
}
