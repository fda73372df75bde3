//! Somebody elsewhere who is asked whose a token is, by TokenReview.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::request::User;
use api::value::{flag, list, text};
use base::Clock;
use serde_json::{Value, json};

use super::groups::add_authenticated;
use crate::outbound::{Correspondent, Outbound};
use crate::remembered::Remembered;

/// How long an answer is remembered (`authentication-token-webhook-cache-ttl`).
const REMEMBERED: Duration = Duration::from_secs(120);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Whose a token is, and for which audiences it is good.
pub type Held = (User, Vec<String>);

type Answer = Result<Held, String>;

/// The one who is asked.
pub struct TokenWebhook {
    asked: Correspondent,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    remembered: Remembered<Answer>,
}

impl TokenWebhook {
    /// The one whom a file in the form of a kubeconfig leads to.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(file: &Path, outbound: Outbound, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Self {
            asked: Correspondent::read(file)?,
            outbound,
            clock,
            remembered: Remembered::default(),
        })
    }

    /// Whose a token is, and for which of these audiences.
    ///
    /// # Errors
    /// What was said against it, or why nobody could be asked, which is not remembered.
    pub async fn authenticate(&self, token: &str, audiences: &[String]) -> Answer {
        let parts = std::iter::once(token).chain(audiences.iter().map(String::as_str));
        let key = Remembered::<Answer>::key(parts);
        if let Some(answer) = self.remembered.get(&key, self.clock.monotonic()) {
            return answer;
        }
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {"creationTimestamp": null}, "spec": {"token": token, "audiences": audiences}});
        let said = self.outbound.review(&self.asked, &review, ANSWER_WITHIN).await?;
        let answer = read(&said, audiences);
        let until = self.clock.monotonic() + REMEMBERED;
        self.remembered.keep(key, until, answer.clone());
        answer
    }
}

/// What a TokenReview that was answered says.
fn read(review: &Value, wanted: &[String]) -> Answer {
    if !flag(review, "status.authenticated") {
        return Err(match text(review, "status.error") {
            "" => "the webhook does not know the token".to_owned(),
            why => why.to_owned(),
        });
    }
    let texts = |of: &Value, path: &str| -> Vec<String> {
        list(of, path)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    // One who names no audience is taken to mean whom it was asked by.
    let mut audiences = texts(review, "status.audiences");
    if audiences.is_empty() {
        audiences = wanted.to_vec();
    }
    audiences.retain(|audience| wanted.contains(audience));
    if audiences.is_empty() {
        return Err(format!("the token is not for any of the audiences {wanted:?}"));
    }
    let of = &review["status"]["user"];
    let name = text(of, "username").to_owned();
    let mut groups = texts(of, "groups");
    add_authenticated(&name, &mut groups);
    let extra: BTreeMap<String, Vec<String>> =
        serde_json::from_value(of["extra"].clone()).unwrap_or_default();
    let user = User {
        name,
        uid: text(of, "uid").to_owned(),
        groups,
        extra: extra.into(),
    };
    Ok((user, audiences))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_damaged_answer_knows_nobody_else(seed: u64) {
            let wanted = ["api".to_owned()];
            let no = json!({"status": {"authenticated": false, "error": "unknown token", "audiences": ["api"],
                "user": {"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"a": ["b"]}}}});
            let mut bytes = no.to_string().into_bytes();
            base::SeededRandom::new(seed).damage(&mut bytes);
            let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            prop_assert!(read(&review, &wanted).is_err(), "{review}");
        }
    }

    #[test]
    fn an_answer_is_read() {
        let wanted = ["api".to_owned()];
        let user = json!({"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"a": ["b"]}});
        let yes = json!({"status": {"authenticated": true, "user": user}});
        let (jane, audiences) = read(&yes, &wanted).unwrap();
        assert_eq!((jane.name.as_str(), audiences), ("jane", wanted.to_vec()));
        assert_eq!(jane.groups, ["dev", "system:authenticated"]);
        assert_eq!(jane.extra["a"], ["b"]);
        let other = json!({"status": {"authenticated": true, "user": user, "audiences": ["vault"]}});
        assert!(read(&other, &wanted).is_err());
        let no = json!({"status": {"authenticated": false, "error": "unknown token"}});
        assert_eq!(read(&no, &wanted).unwrap_err(), "unknown token");
    }
}
