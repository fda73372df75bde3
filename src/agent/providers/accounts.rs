//! What providers are told of the service account of the pod that wants the image (`tokenAttributes`).

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::config::{Kept, TokenAttributes};

/// A service account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: one that was made anew is another.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Answers for the service account of the pod that wants an image.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The account; `None` for pods that have none, as those that are described by files.
    ///
    /// # Errors
    /// Why it is not known, fit for a user's eyes.
    async fn account(&self) -> Result<Option<Account>, String>;

    /// A token of the account for that audience, bound to the pod.
    ///
    /// # Errors
    /// Why there is none, fit for a user's eyes.
    async fn token(&self, account: &Account, audience: &str) -> Result<String, String>;
}

/// What a provider is told of the account.
#[derive(Default)]
pub(super) struct Told {
    pub(super) token: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// For whom its answer holds; empty: for everybody.
    pub(super) whom: String,
    /// The account itself.
    pub(super) account: Option<Account>,
}

/// What a provider that wants tokens is told; `None` if it is not to be asked at all.
pub(super) async fn told(wanted: &TokenAttributes, accounts: &dyn Accounts) -> Result<Option<Told>, String> {
    let Some(account) = accounts.account().await? else {
        return Ok((!wanted.require_account).then(Told::default));
    };
    let annotation = |key: &String| Some((key.clone(), account.annotations.get(key)?.clone()));
    // By an annotation that it requires, workloads choose to be known to it.
    let required: Option<BTreeMap<_, _>> = wanted.required_annotations.iter().map(annotation).collect();
    let Some(mut annotations) = required else {
        return Ok(None);
    };
    annotations.extend(wanted.optional_annotations.iter().filter_map(annotation));
    let token = accounts.token(&account, &wanted.audience).await?;
    let whom = match wanted.kept {
        Kept::Token => serde_json::json!([token, annotations]),
        Kept::ServiceAccount => {
            serde_json::json!([account.namespace, account.name, account.uid, annotations])
        }
    };
    Ok(Some(Told {
        token,
        annotations,
        whom: whom.to_string(),
        account: Some(account),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pod(Option<Account>);

    #[async_trait]
    impl Accounts for Pod {
        async fn account(&self) -> Result<Option<Account>, String> {
            Ok(self.0.clone())
        }

        async fn token(&self, account: &Account, audience: &str) -> Result<String, String> {
            Ok(format!("{} for {audience}", account.name))
        }
    }

    fn pod(name: &str, annotations: &[(&str, &str)]) -> Pod {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Pod(Some(Account {
            name: name.to_owned(),
            annotations: annotations.collect(),
            ..Account::default()
        }))
    }

    fn wanted(kept: Kept) -> TokenAttributes {
        TokenAttributes {
            audience: "r.io".to_owned(),
            kept,
            require_account: true,
            required_annotations: vec!["role".to_owned()],
            optional_annotations: vec!["extra".to_owned()],
        }
    }

    #[tokio::test]
    async fn an_account_is_told_of_when_it_has_what_is_required() {
        let wanted = wanted(Kept::ServiceAccount);
        let known = pod("bot", &[("role", "puller"), ("other", "x")]);
        let first = told(&wanted, &known).await.unwrap().unwrap();
        assert_eq!(first.token, "bot for r.io");
        assert_eq!(
            first.annotations,
            [("role".to_owned(), "puller".to_owned())].into()
        );
        let more = pod("bot", &[("role", "puller"), ("extra", "y")]);
        let more = told(&wanted, &more).await.unwrap().unwrap();
        assert_eq!(more.annotations.len(), 2);
        // What is said to one is not for the other.
        assert_ne!(first.whom, more.whom);
        assert!(told(&wanted, &pod("bot", &[])).await.unwrap().is_none());
        let by_token = told(&self::wanted(Kept::Token), &known).await.unwrap().unwrap();
        assert!(by_token.whom.contains("bot for r.io"));
    }

    #[tokio::test]
    async fn a_pod_without_an_account_is_told_of_where_none_is_required() {
        let mut wanted = wanted(Kept::Token);
        assert!(told(&wanted, &Pod(None)).await.unwrap().is_none());
        wanted.require_account = false;
        let told = told(&wanted, &Pod(None)).await.unwrap().unwrap();
        assert_eq!((told.token.as_str(), told.whom.as_str()), ("", ""));
    }
}
