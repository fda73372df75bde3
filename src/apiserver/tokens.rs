//! Service-account tokens, as the registry half asks for them: issuing
//! (`serviceaccounts/token`, and for Secrets that keep one) and reviewing (`TokenReview`).

use api::request::{Notes, User};
use api::status::Status;
use async_trait::async_trait;

/// What a token is bound to besides its service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundObject {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name, in the service account's namespace unless a node.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A token to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpec {
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub name: String,
    /// UID of the service account.
    pub uid: String,
    /// For whom the token is good; empty means the API server itself.
    pub audiences: Vec<String>,
    /// Seconds until it ends.
    pub expiration_seconds: i64,
    /// The object with which it dies.
    pub bound: Option<BoundObject>,
    /// The node on which a bound pod runs: name and UID, for the token's `node` claim.
    pub node: Option<(String, String)>,
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The JWT. A secret: never logged.
    pub token: String,
    /// When it ends.
    pub expires: jiff::Timestamp,
    /// For whom it is good: the audiences asked for, or the default one.
    pub audiences: Vec<String>,
}

/// A token that is to be kept in a Secret and lasts as long as that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSpec {
    /// Namespace of the service account and of the Secret.
    pub namespace: String,
    /// Name of the service account.
    pub account: String,
    /// UID of the service account.
    pub uid: String,
    /// Name of the Secret.
    pub secret: String,
}

/// Issues and reviews bearer tokens.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// Signs a token.
    fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, Status>;

    /// Signs a token for a Secret. A secret: never logged.
    fn issue_kept(&self, spec: &KeptSpec) -> Result<String, Status>;

    /// Whether `token` names a key as its signer that is not trusted (any more).
    fn has_lost_its_key(&self, token: &str) -> bool;

    /// Who holds `token`, and for which of `audiences` (empty: the API server's) it is good.
    /// `Err` carries the text for a `TokenReview`'s `status.error`; what is to be said besides goes to `notes`.
    async fn review(
        &self,
        token: &str,
        audiences: &[String],
        notes: &Notes,
    ) -> Result<(User, Vec<String>), String>;
}
