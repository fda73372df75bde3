//! What a service-account token says (the claims of Kubernetes' bound tokens, and of those that Secrets keep).

use serde::{Deserialize, Serialize};

/// A thing named in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Private {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    pub serviceaccount: Named,
}

/// One audience or a list of them: RFC 7519 allows both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Audience::Many(Vec::new())
    }
}

impl Audience {
    pub fn list(&self) -> &[String] {
        match self {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many,
        }
    }
}

/// All claims. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    pub aud: Audience,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    pub nbf: i64,
    pub sub: String,
}

/// Who issues the tokens that Secrets keep, whatever this cluster's issuer is called.
pub(super) const KEPT_ISSUER: &str = "kubernetes/serviceaccount";

/// What a token says that a Secret keeps. It has no times: it ends with its Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    pub sub: String,
}

/// What a token says, of either sort.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    Bound(Claims),
    Kept(Kept),
}

impl Said {
    /// Whether it comes from the issuer of its sort, where `issuer` issues those that end by themselves.
    pub fn is_from(&self, issuer: &str) -> bool {
        match self {
            Said::Bound(claims) => claims.iss == issuer,
            Said::Kept(claims) => claims.iss == KEPT_ISSUER,
        }
    }
}
