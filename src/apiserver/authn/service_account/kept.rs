//! Tokens that Secrets of type `kubernetes.io/service-account-token` keep: without an end of their own, good for as long
//! as the Secret holds them and the account is the one that they were signed for.

use api::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::claims::{KEPT_ISSUER, Kept};
use super::{ServiceAccounts, account_name};
use crate::tokens::KeptSpec;

/// The label of a Secret whose token is refused for the time being; its value says since when.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What a new token says.
pub(super) fn claims(spec: &KeptSpec) -> Kept {
    Kept {
        iss: KEPT_ISSUER.to_owned(),
        namespace: spec.namespace.clone(),
        secret: spec.secret.clone(),
        account: spec.account.clone(),
        uid: spec.uid.clone(),
        sub: account_name(&spec.namespace, &spec.account),
    }
}

impl ServiceAccounts {
    /// Whether Secret and account are still those that the token speaks of.
    pub(super) fn check_kept(&self, claims: &Kept, token: &str) -> Result<(), String> {
        let (namespace, account) = (&claims.namespace, &claims.account);
        if claims.sub != account_name(namespace, account) {
            return Err("sub claim is invalid".into());
        }
        let secret = self
            .living("secrets", namespace, &claims.secret)
            .ok_or_else(|| "service account token has been invalidated".to_owned())?;
        let held = STANDARD
            .decode(object::get_str(&secret, &["data", "token"]))
            .unwrap_or_default();
        if held != token.as_bytes() {
            return Err("service account token does not match server's copy".into());
        }
        let found = self
            .living("serviceaccounts", namespace, account)
            .ok_or_else(|| format!("service account {namespace}/{account} has been deleted"))?;
        let uid = object::uid(&found);
        if uid != claims.uid {
            let wanted = &claims.uid;
            return Err(format!(
                "service account UID ({uid}) does not match claim ({wanted})"
            ));
        }
        match object::label(&secret, INVALID_SINCE) {
            None | Some("") => Ok(()),
            Some(_) => Err(format!(
                "the token in secret {namespace}/{} for service account {namespace}/{account} has been marked invalid. \
                 Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
                 '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
                claims.secret
            )),
        }
    }

    /// The object of that name, unless it is being deleted.
    fn living(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = self.lookup.find("", plural, namespace, name)?;
        let object: Value = serde_json::from_slice(&found.text).ok()?;
        (!object::is_deleting(&object)).then_some(object)
    }
}
