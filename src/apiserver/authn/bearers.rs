//! Bearer tokens of every sort: whoever knows a token says whose it is.

use std::sync::Arc;

use api::request::{Notes, User};
use api::status::Status;
use api::tokens::BOOTSTRAP_NAMESPACE;
use async_trait::async_trait;
use base::Clock;

use super::token_webhook::{Held, TokenWebhook};
use super::{Configured, ServiceAccounts, bootstrap};
use crate::lookup::Lookup;
use crate::tokens::{IssuedToken, KeptSpec, TokenSpec, Tokens};

/// All who know tokens, in Kubernetes' order.
pub struct Bearers {
    /// The server's own.
    pub accounts: Arc<ServiceAccounts>,
    /// Where bootstrap tokens are kept.
    pub lookup: Arc<dyn Lookup>,
    /// Issuers elsewhere, and who may ask without a token.
    pub configured: Configured,
    /// Somebody who is asked about all other tokens.
    pub webhook: Option<TokenWebhook>,
    /// For expiry.
    pub clock: Arc<dyn Clock>,
}

impl Bearers {
    /// Only what the cluster keeps itself.
    pub fn own(accounts: Arc<ServiceAccounts>, lookup: Arc<dyn Lookup>, clock: Arc<dyn Clock>) -> Self {
        Self {
            accounts,
            lookup,
            configured: Configured::default(),
            webhook: None,
            clock,
        }
    }

    /// Whose a token is; `audiences` are those for which it shall be good, none for the server's own. What is to be
    /// said of it besides goes to `notes`.
    ///
    /// # Errors
    /// What whoever knew it best had against it.
    pub async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        notes: &Notes,
    ) -> Result<Held, String> {
        let mut why = match self.accounts.authenticate(token, audiences, notes) {
            Ok(held) => return Ok(held),
            Err(why) => why,
        };
        if let Some((id, secret)) = bootstrap::parts(token) {
            match self.bootstrap(id, secret) {
                Ok(user) => return self.for_own(user, audiences),
                Err(refusal) => why = refusal,
            }
        }
        match self
            .configured
            .now()
            .issuers
            .authenticate(token, self.clock.now())
            .await
        {
            Some(Ok(user)) => return self.for_own(user, audiences),
            Some(Err(refusal)) => why = refusal,
            None => {}
        }
        match &self.webhook {
            Some(webhook) => {
                let own = [self.accounts.audience().to_owned()];
                let wanted = if audiences.is_empty() { &own[..] } else { audiences };
                webhook
                    .authenticate(token, wanted)
                    .await
                    .map_err(|refusal| format!("[{why}, {refusal}]"))
            }
            None => Err(why),
        }
    }

    fn bootstrap(&self, id: &str, secret: &str) -> Result<User, String> {
        let name = bootstrap::secret_name(id);
        let found = self.lookup.find("", "secrets", BOOTSTRAP_NAMESPACE, &name);
        let found = found.ok_or_else(|| "no Secret knows the bootstrap token".to_owned())?;
        let stored = serde_json::from_slice(&found.text).map_err(|error| error.to_string())?;
        bootstrap::user(&stored, id, secret, self.clock.now())
    }

    /// What proves a user to this server and nobody else, when it shall be good for those audiences.
    fn for_own(&self, user: User, audiences: &[String]) -> Result<Held, String> {
        let own = self.accounts.audience().to_owned();
        if audiences.is_empty() || audiences.contains(&own) {
            return Ok((user, vec![own]));
        }
        Err(format!("the token is not for any of the audiences {audiences:?}"))
    }
}

#[async_trait]
impl Tokens for Bearers {
    fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, Status> {
        self.accounts.issue(spec)
    }

    fn issue_kept(&self, spec: &KeptSpec) -> Result<String, Status> {
        self.accounts.issue_kept(spec)
    }

    fn has_lost_its_key(&self, token: &str) -> bool {
        self.accounts.has_lost_its_key(token)
    }

    async fn review(&self, token: &str, audiences: &[String], notes: &Notes) -> Result<Held, String> {
        self.authenticate(token, audiences, notes).await
    }
}
