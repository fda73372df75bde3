//! Secrets of type `kubernetes.io/service-account-token`: each is filled with a token of the ServiceAccount that it
//! names, and goes with it.
//!
//! This is a controller in all but name; it lives here because the keys do. As in Kubernetes, a Secret that comes before
//! its account is removed. Unlike there, a token is made anew once the key that has signed it is trusted no more.

use std::collections::BTreeSet;

use api::object;
use api::request::{Request, Verb};
use api::status::Status;
use api::tokens::{ACCOUNT, ACCOUNT_TYPE, ACCOUNT_UID};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use store::{Change, Entry, Event, StoreError};

use super::{PAUSE, of_keys};
use crate::mirror::anew;
use crate::registry::{Core, text};
use crate::stored;
use crate::tokens::KeptSpec;

/// What is to be done about a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Its account is gone.
    Remove,
    /// Something is missing or has changed: the token, too?
    Fill {
        token: bool,
    },
}

/// What to do about a Secret, given the account of the name that it says, and the authority to be told.
fn step(secret: &Value, account: Option<&Value>, authority: &str, is_lost: impl Fn(&str) -> bool) -> Step {
    if object::is_deleting(secret) {
        return Step::Nothing;
    }
    let uid = object::annotation(secret, ACCOUNT_UID).unwrap_or_default();
    match account {
        Some(account) if uid.is_empty() || uid == object::uid(account) => {}
        _ => return Step::Remove,
    }
    let held = held(secret, "token");
    let token = held.is_empty() || is_lost(&String::from_utf8_lossy(&held));
    let authority = !authority.is_empty() && data(secret, "ca.crt") != STANDARD.encode(authority);
    if token || authority || data(secret, "namespace").is_empty() {
        Step::Fill { token }
    } else {
        Step::Nothing
    }
}

/// The Secret with all that it shall hold; without another token it keeps its own.
fn filled(secret: &Value, account: &Value, authority: &str, token: Option<&str>) -> Value {
    let mut new = secret.clone();
    object::set_annotation(&mut new, ACCOUNT, object::name(account));
    object::set_annotation(&mut new, ACCOUNT_UID, object::uid(account));
    let namespace = object::namespace(secret).to_owned();
    let texts = [
        ("ca.crt", Some(authority).filter(|text| !text.is_empty())),
        (
            "namespace",
            data(secret, "namespace").is_empty().then_some(&*namespace),
        ),
        ("token", token),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            object::set(&mut new, &["data", key], STANDARD.encode(text));
        }
    }
    new
}

/// An account without its reference to a Secret that is gone, if it has one.
fn without_reference(account: &Value, secret: &str) -> Option<Value> {
    let references = object::get_list(account, &["secrets"]);
    let left: Vec<Value> = references
        .iter()
        .filter(|reference| reference["name"] != secret)
        .cloned()
        .collect();
    (left.len() < references.len()).then(|| {
        let mut new = account.clone();
        object::set(&mut new, &["secrets"], left);
        new
    })
}

fn data<'a>(secret: &'a Value, key: &str) -> &'a str {
    object::get_str(secret, &["data", key])
}

fn held(secret: &Value, key: &str) -> Vec<u8> {
    STANDARD.decode(data(secret, key)).unwrap_or_default()
}

impl Core {
    /// Keeps these Secrets right for ever. One server does, the one that leads.
    pub async fn keep_account_secrets(self) {
        while anew("the secrets of service accounts", self.keep_them().await).await {}
    }

    async fn keep_them(&self) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let follow = |plural| store.watch(&stored::prefix("", plural, ""), store.revision());
        let (mut secrets, mut accounts) = (follow("secrets")?, follow("serviceaccounts")?);
        let mut keys = self.inner.config.keys.as_ref().map(|keys| keys.changes());
        let mut due = self.account_secrets("");
        loop {
            let mut failed = BTreeSet::new();
            for key in std::mem::take(&mut due) {
                if let Err(status) = self.settle_account_secret(&key).await {
                    tracing::warn!(%status, key, "the secret of a service account could not be put in order");
                    // What is refused for what it is, such as a change of an immutable one, is refused again.
                    if status.code >= 500 {
                        failed.insert(key);
                    }
                }
            }
            if !failed.is_empty() {
                tokio::time::sleep(PAUSE).await;
                due = failed;
                continue;
            }
            tokio::select! {
                event = secrets.next() => {
                    let event = event.ok_or(StoreError::Closed)??;
                    if is_one(&event.entry) {
                        due.extend(self.secret_changed(&event).await);
                    }
                }
                event = accounts.next() => {
                    let event = event.ok_or(StoreError::Closed)??;
                    due = self.account_secrets(namespace_of(&event.entry.key));
                }
                () = of_keys(&mut keys) => due = self.account_secrets(""),
            }
        }
    }

    /// The keys of these Secrets in a namespace, or in all.
    fn account_secrets(&self, namespace: &str) -> BTreeSet<String> {
        let prefix = stored::prefix("", "secrets", namespace);
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        let ours = entries.iter().filter(|entry| is_one(entry));
        ours.map(|entry| entry.key.clone()).collect()
    }

    /// The key of a Secret that is to be looked at. The account of one that is gone is told so.
    async fn secret_changed(&self, event: &Event) -> Option<String> {
        let key = event.entry.key.clone();
        if event.kind == Change::Put {
            return Some(key);
        }
        if let Err(status) = self.forget_reference(&event.entry).await {
            tracing::warn!(%status, key, "an account still refers to a secret that is gone");
        }
        None
    }

    async fn forget_reference(&self, gone: &Entry) -> Result<(), Status> {
        let secret = text::parse(gone)?;
        let Some(account) = self.account_of(&secret)? else {
            return Ok(());
        };
        let uid = object::annotation(&secret, ACCOUNT_UID).unwrap_or_default();
        if uid != object::uid(&account) || self.inner.store.peek(&gone.key).is_some() {
            return Ok(());
        }
        match without_reference(&account, object::name(&secret)) {
            Some(new) => self.change_own("serviceaccounts", &new).await,
            None => Ok(()),
        }
    }

    /// The account of the name that a Secret says.
    fn account_of(&self, secret: &Value) -> Result<Option<Value>, Status> {
        let name = object::annotation(secret, ACCOUNT).unwrap_or_default();
        let key = stored::key("", "serviceaccounts", object::namespace(secret), name);
        let entry = self.inner.store.peek(&key);
        entry.map(|entry| text::parse(&entry)).transpose()
    }

    async fn settle_account_secret(&self, key: &str) -> Result<(), Status> {
        let Some(entry) = self.inner.store.peek(key) else {
            return Ok(());
        };
        let (secret, tokens) = (text::parse(&entry)?, &self.inner.tokens);
        let account = self.account_of(&secret)?;
        let keys = self.inner.config.keys.as_ref().map(|keys| keys.now());
        let authority = keys.as_ref().map_or("", |keys| keys.serving_ca.bundle());
        let is_lost = |token: &str| tokens.has_lost_its_key(token);
        match (step(&secret, account.as_ref(), authority, is_lost), account) {
            (Step::Remove, _) => self.remove_own(&secret).await,
            (Step::Fill { token }, Some(account)) => {
                let sign = || tokens.issue_kept(&spec(&secret, &account));
                let token = token.then(sign).transpose()?;
                let new = filled(&secret, &account, authority, token.as_deref());
                self.change_own("secrets", &new).await
            }
            _ => Ok(()),
        }
    }

    async fn change_own(&self, plural: &str, new: &Value) -> Result<(), Status> {
        let mut request = self.own(
            Verb::Update,
            "",
            plural,
            object::namespace(new),
            object::name(new),
        )?;
        request.body = new.to_string().into();
        self.carry_out_unless_changed(&request).await
    }

    async fn remove_own(&self, secret: &Value) -> Result<(), Status> {
        let (namespace, name) = (object::namespace(secret), object::name(secret));
        let mut request = self.own(Verb::Delete, "", "secrets", namespace, name)?;
        let version = object::resource_version(secret);
        request.body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": object::uid(secret), "resourceVersion": version},
        })
        .to_string()
        .into();
        self.carry_out_unless_changed(&request).await
    }

    /// What somebody else has changed meanwhile comes back as an event.
    pub(super) async fn carry_out_unless_changed(&self, request: &Request) -> Result<(), Status> {
        match self.carry_out(request).await {
            Err(status) if status.is_conflict() || status.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

fn spec(secret: &Value, account: &Value) -> KeptSpec {
    KeptSpec {
        namespace: object::namespace(secret).to_owned(),
        account: object::name(account).to_owned(),
        uid: object::uid(account).to_owned(),
        secret: object::name(secret).to_owned(),
    }
}

fn is_one(entry: &Entry) -> bool {
    let mut fields = entry.header.fields.iter();
    fields.any(|(field, is)| field == "type" && is == ACCOUNT_TYPE)
}

/// The namespace in a key.
fn namespace_of(key: &str) -> &str {
    key.rsplit('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: Option<&str>, data: Value) -> Value {
        let mut secret = json!({
            "metadata": {"namespace": "a", "name": "key", "annotations": {ACCOUNT: "bot"}}, "type": ACCOUNT_TYPE, "data": data,
        });
        if let Some(uid) = uid {
            object::set_annotation(&mut secret, ACCOUNT_UID, uid);
        }
        secret
    }

    fn account() -> Value {
        json!({"metadata": {"namespace": "a", "name": "bot", "uid": "1"}})
    }

    #[test]
    fn a_secret_is_filled_once_and_kept_so() {
        let never = |_: &str| false;
        let new = secret(None, Value::Null);
        assert_eq!(
            step(&new, Some(&account()), "CA", never),
            Step::Fill { token: true }
        );
        let whole = filled(&new, &account(), "CA", Some("t"));
        assert_eq!(
            whole["data"],
            json!({"ca.crt": "Q0E=", "namespace": "YQ==", "token": "dA=="})
        );
        assert_eq!(object::annotation(&whole, ACCOUNT_UID), Some("1"));
        assert_eq!(step(&whole, Some(&account()), "CA", never), Step::Nothing);
        // Another authority, and a key that is no longer trusted.
        assert_eq!(
            step(&whole, Some(&account()), "CB", never),
            Step::Fill { token: false }
        );
        let other = filled(&whole, &account(), "CB", None);
        assert_eq!(other["data"]["token"], "dA==");
        let lost = |token: &str| token == "t";
        assert_eq!(
            step(&whole, Some(&account()), "CA", lost),
            Step::Fill { token: true }
        );
        assert_eq!(
            step(&whole, Some(&account()), "", never),
            Step::Nothing,
            "no authority is known"
        );
    }

    #[test]
    fn a_secret_goes_with_its_account() {
        let never = |_: &str| false;
        assert_eq!(step(&secret(None, json!({})), None, "CA", never), Step::Remove);
        let stranger = secret(Some("2"), json!({"token": "dA=="}));
        assert_eq!(step(&stranger, Some(&account()), "CA", never), Step::Remove);
        let mut going = secret(None, json!({}));
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(step(&going, None, "CA", never), Step::Nothing);
    }

    #[test]
    fn an_account_forgets_a_secret_that_is_gone() {
        let mut account = account();
        account["secrets"] = json!([{"name": "key"}, {"name": "other"}]);
        let new = without_reference(&account, "key").unwrap();
        assert_eq!(new["secrets"], json!([{"name": "other"}]));
        assert_eq!(without_reference(&new, "key"), None);
    }
}
