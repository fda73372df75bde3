//! One issuer by settings instead of a file (`--oidc-…`).

use std::path::PathBuf;

use super::config::{AuthenticationConfiguration, ClaimRule, IssuerConfig, Jwt, Mapping, Mappings};

/// What the settings say.
#[derive(Clone, Debug, Default)]
pub struct OidcSettings {
    /// The claim `iss`; empty for no issuer.
    pub issuer_url: String,
    /// Whom tokens must be for.
    pub client_id: String,
    /// The claim that is the user's name; empty for `sub`.
    pub username_claim: String,
    /// What is put before it; `-` for nothing, empty for the issuer and `#` unless the claim is `email`.
    pub username_prefix: String,
    /// The claim that lists groups; empty for none.
    pub groups_claim: String,
    /// What is put before each.
    pub groups_prefix: String,
    /// Who signed the issuer's serving certificate, PEM; `None` for those whom the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// `CLAIM=VALUE` that tokens must have.
    pub required_claims: Vec<String>,
}

impl OidcSettings {
    /// Whether anything is said.
    pub fn is_set(&self) -> bool {
        let texts = [
            &self.issuer_url,
            &self.client_id,
            &self.username_claim,
            &self.username_prefix,
            &self.groups_claim,
            &self.groups_prefix,
        ];
        texts.iter().any(|text| !text.is_empty())
            || self.ca_file.is_some()
            || !self.required_claims.is_empty()
    }

    /// The same as a file would say it.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn configuration(&self) -> Result<AuthenticationConfiguration, String> {
        if self.issuer_url.is_empty() || self.client_id.is_empty() {
            return Err(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                    .into(),
            );
        }
        let rules = self.required_claims.iter().map(|pair| {
            let wrong = || format!("oidc-required-claim {pair:?}: it is not CLAIM=VALUE");
            let (claim, value) = pair.split_once('=').ok_or_else(wrong)?;
            Ok(ClaimRule {
                claim: claim.to_owned(),
                required_value: value.to_owned(),
                ..ClaimRule::default()
            })
        });
        let authority = match &self.ca_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("oidc-ca-file {}: {error}", file.display()))?,
            None => String::new(),
        };
        let jwt = Jwt {
            issuer: IssuerConfig {
                url: self.issuer_url.clone(),
                certificate_authority: authority,
                audiences: vec![self.client_id.clone()],
                ..IssuerConfig::default()
            },
            claim_validation_rules: rules.collect::<Result<_, String>>()?,
            claim_mappings: self.mappings(),
            ..Jwt::default()
        };
        Ok(AuthenticationConfiguration {
            jwt: vec![jwt],
            ..AuthenticationConfiguration::default()
        })
    }

    fn mappings(&self) -> Mappings {
        let name = match self.username_claim.as_str() {
            "" => "sub",
            claim => claim,
        };
        let prefix = match self.username_prefix.as_str() {
            "-" => String::new(),
            "" if name == "email" => String::new(),
            "" => format!("{}#", self.issuer_url),
            prefix => prefix.to_owned(),
        };
        let claim = |name: &str, prefix: String| Mapping {
            claim: name.to_owned(),
            prefix: Some(prefix),
            ..Mapping::default()
        };
        let groups = match self.groups_claim.as_str() {
            "" => Mapping::default(),
            name => claim(name, self.groups_prefix.clone()),
        };
        Mappings {
            username: claim(name, prefix),
            groups,
            ..Mappings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OidcSettings {
        OidcSettings {
            issuer_url: "https://issuer.example".into(),
            client_id: "coracle".into(),
            ..OidcSettings::default()
        }
    }

    #[test]
    fn names_are_told_apart_by_issuer_unless_they_are_addresses() {
        let of = |settings: OidcSettings| {
            settings
                .configuration()
                .unwrap()
                .jwt
                .remove(0)
                .claim_mappings
                .username
        };
        let name = of(settings());
        assert_eq!(
            (name.claim.as_str(), name.prefix.as_deref()),
            ("sub", Some("https://issuer.example#"))
        );
        let with = |claim: &str, prefix: &str| OidcSettings {
            username_claim: claim.into(),
            username_prefix: prefix.into(),
            ..settings()
        };
        assert_eq!(of(with("email", "")).prefix.as_deref(), Some(""));
        assert_eq!(of(with("", "-")).prefix.as_deref(), Some(""));
        assert_eq!(of(with("", "oidc:")).prefix.as_deref(), Some("oidc:"));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(!OidcSettings::default().is_set());
        let lonely = OidcSettings {
            groups_claim: "groups".into(),
            ..OidcSettings::default()
        };
        assert!(lonely.is_set());
        assert!(
            lonely
                .configuration()
                .unwrap_err()
                .contains("must be specified together")
        );
        let odd = OidcSettings {
            required_claims: vec!["tier".into()],
            ..settings()
        };
        assert!(odd.configuration().unwrap_err().contains("CLAIM=VALUE"));
        let fine = OidcSettings {
            required_claims: vec!["tier=gold".into()],
            groups_claim: "groups".into(),
            ..settings()
        };
        let told = fine.configuration().unwrap();
        assert_eq!(told.jwt[0].claim_validation_rules[0].required_value, "gold");
        assert_eq!(told.jwt[0].claim_mappings.groups.prefix.as_deref(), Some(""));
    }
}
