//! Tokens of issuers elsewhere (OpenID Connect), as the structured `AuthenticationConfiguration` describes them.
//!
//! ```text
//! token ─ issuer ─▶ keys.rs: its keys, fetched when one is missing ─▶ signature
//!                      └▶ claims.rs (pure): time, audience, rules, mapping by claim or CEL ─▶ user
//! ```

mod claims;
pub mod config;
mod flags;
mod keys;

use api::request::User;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use crate::outbound::Outbound;
use claims::Rules;
use config::AuthenticationConfiguration;
pub use flags::OidcSettings;
use keys::Keys;

/// One issuer.
struct Issuer {
    url: String,
    keys: Keys,
    rules: Rules,
}

/// All issuers elsewhere.
#[derive(Default)]
pub struct Issuers(Vec<Issuer>);

impl Issuers {
    /// Those of a configuration.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub fn new(config: &AuthenticationConfiguration, outbound: &Outbound) -> Result<Self, String> {
        let made = config.jwt.iter().enumerate().map(|(at, jwt)| {
            let named = |why: String| format!("jwt[{at}].{why}");
            Ok(Issuer {
                url: jwt.issuer.url.clone(),
                keys: Keys::new(&jwt.issuer, outbound.clone()).map_err(named)?,
                rules: Rules::new(jwt).map_err(named)?,
            })
        });
        made.collect::<Result<_, String>>().map(Self)
    }

    /// Whose a token is; `None` when no issuer here has issued it.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Option<Result<User, String>> {
        let claimed = unverified_issuer(token)?;
        let issuer = self.0.iter().find(|issuer| issuer.url == claimed)?;
        let claims = match issuer.keys.verified(token).await {
            Ok(claims) => claims,
            Err(why) => return Some(Err(format!("oidc: verify token: {why}"))),
        };
        Some(
            issuer
                .rules
                .user(&claims, now)
                .map_err(|why| format!("oidc: {why}")),
        )
    }
}

/// Who a token says has issued it; nothing is proven yet.
fn unverified_issuer(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims["iss"].as_str().map(str::to_owned)
}
