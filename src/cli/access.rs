//! Settings of who is known, and who says whether they may.

use apiserver::authn::oidc::OidcSettings;
use apiserver::authz::config::AuthorizationSettings;

use super::Settings;
use crate::config::Authentication;

impl Settings {
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
