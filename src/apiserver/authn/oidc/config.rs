//! The structured configuration of authentication (`apiserver.config.k8s.io`), as its file says it.

use serde::Deserialize;

use crate::reload::structured;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AuthenticationConfiguration {
    /// `apiserver.config.k8s.io/v1`, or one of its betas.
    pub api_version: String,
    /// `AuthenticationConfiguration`.
    pub kind: String,
    /// Issuers of tokens.
    pub jwt: Vec<Jwt>,
    /// Requests without credentials; absent for what the server does otherwise.
    pub anonymous: Option<Anonymous>,
}

/// Who may go on without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Anonymous {
    /// Whether anybody may.
    pub enabled: bool,
    /// Where; everywhere if there is none.
    pub conditions: Vec<AnonymousCondition>,
}

/// A place open to all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AnonymousCondition {
    /// A path, exactly.
    pub path: String,
}

/// One issuer and what its tokens mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Jwt {
    /// Who.
    pub issuer: IssuerConfig,
    /// What must hold of the claims.
    pub claim_validation_rules: Vec<ClaimRule>,
    /// Who the claims mean.
    pub claim_mappings: Mappings,
    /// What must hold of the user.
    pub user_validation_rules: Vec<UserRule>,
}

/// An issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IssuerConfig {
    /// The claim `iss`.
    pub url: String,
    /// Where its discovery document is; empty for below `url`.
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// Who signed its serving certificate, PEM; empty for those whom the machine trusts.
    pub certificate_authority: String,
    /// Which of them a token must be for.
    pub audiences: Vec<String>,
    /// `MatchAny` if there are several audiences.
    pub audience_match_policy: String,
}

/// What must hold of the claims: either of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClaimRule {
    /// A claim that must be there.
    pub claim: String,
    /// Its value.
    pub required_value: String,
    /// An expression over `claims`.
    pub expression: String,
    /// What to say when it does not hold.
    pub message: String,
}

/// What must hold of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct UserRule {
    /// An expression over `user`.
    pub expression: String,
    /// What to say when it does not hold.
    pub message: String,
}

/// Who the claims mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Mappings {
    /// The name.
    pub username: Mapping,
    /// The groups.
    pub groups: Mapping,
    /// The UID.
    pub uid: Mapping,
    /// Anything else.
    pub extra: Vec<ExtraMapping>,
}

/// A claim, or an expression over `claims`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// What is put before it; needed with a claim, and may be empty.
    pub prefix: Option<String>,
    /// The expression.
    pub expression: String,
}

/// One more thing about a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExtraMapping {
    /// Its key, such as `example.com/team`.
    pub key: String,
    /// An expression over `claims`, of a text or a list of texts.
    pub value_expression: String,
}

impl Anonymous {
    /// Whether anybody may ask for that path.
    pub fn may_ask(&self, path: &str) -> bool {
        let open = |condition: &AnonymousCondition| condition.path == path;
        self.enabled && (self.conditions.is_empty() || self.conditions.iter().any(open))
    }
}

impl AuthenticationConfiguration {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read: Self = structured(text, "AuthenticationConfiguration")?;
        let anonymous = read.anonymous.as_ref();
        if anonymous.is_some_and(|anonymous| !anonymous.enabled && !anonymous.conditions.is_empty()) {
            return Err(
                "anonymous.conditions: Forbidden: conditions are only allowed when enabled is true".into(),
            );
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_may_ask_for_some_paths_only() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
        let read = |more: &str| AuthenticationConfiguration::parse(&format!("{head}{more}"));
        let some = read("anonymous: {enabled: true, conditions: [{path: /livez}]}").unwrap();
        let anonymous = some.anonymous.unwrap();
        assert!(anonymous.may_ask("/livez") && !anonymous.may_ask("/api"));
        assert!(
            read("anonymous: {enabled: true}")
                .unwrap()
                .anonymous
                .unwrap()
                .may_ask("/api")
        );
        assert!(read("anonymous: {enabled: false, conditions: [{path: /x}]}").is_err());
        assert!(read("unheard: of").is_err());
        let other = AuthenticationConfiguration::parse("kind: Other").unwrap_err();
        assert!(other.contains("found \"Other\""));
    }
}
