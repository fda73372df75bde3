//! The join tokens that a cluster accepts.

use jiff::Timestamp;

use super::join::{JoinRole, JoinToken};
use super::trust::{Item, Secret, Trust};

/// A token, and when it ends.
struct Held {
    token: JoinToken,
    until: Option<i64>,
}

/// The tokens this cluster accepts.
pub struct JoinTokens {
    held: Vec<Held>,
}

impl JoinTokens {
    /// Those of a cluster.
    pub(super) fn of(trust: &Trust) -> Self {
        let hash = trust.serving_hash();
        let mut held = Vec::new();
        for secret in [Secret::ServerToken, Secret::AgentToken] {
            let Some(role) = secret.role() else { continue };
            let mut items: Vec<&Item> = trust.of(secret).iter().collect();
            items.sort_by_key(|item| item.state);
            held.extend(items.into_iter().map(|item| Held {
                token: JoinToken::new(&hash, role, &item.key),
                until: item.until,
            }));
        }
        Self { held }
    }

    /// The token for that role: the one that is handed out.
    pub fn token(&self, role: JoinRole) -> Option<&JoinToken> {
        let mut tokens = self.held.iter().map(|held| &held.token);
        tokens.find(|token| token.role == role)
    }

    /// As what the bearer of `text` may join at that time; `None` when it is not one of our tokens.
    pub fn role_of(&self, text: &str, now: Timestamp) -> Option<JoinRole> {
        let asked = JoinToken::parse(text)?;
        let good = |held: &&Held| {
            held.token.role == asked.role
                && held.until.is_none_or(|until| until > now.as_second())
                && same(held.token.secret().as_bytes(), asked.secret().as_bytes())
        };
        self.held.iter().find(good).map(|held| held.token.role)
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::super::steps::Step;
    use super::*;

    #[test]
    fn tokens_say_what_their_holder_may_do() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        let trust = Trust::open(dir.path(), now).unwrap();
        let tokens = JoinTokens::of(&trust);
        let token = tokens.token(JoinRole::Agent).unwrap();
        let text = token.text();
        let written = std::fs::read_to_string(dir.path().join("agent-token")).unwrap();
        assert_eq!(written.trim(), text);
        assert_eq!(tokens.role_of(&text, now), Some(JoinRole::Agent));
        assert_eq!(tokens.role_of(&text.replace(".agent.", ".server."), now), None);
        assert_eq!(tokens.role_of("coracle1.x.agent.y", now), None);
        assert_eq!(tokens.role_of("", now), None);
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn an_old_token_is_good_until_its_grace_is_over() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        let trust = Trust::open(dir.path(), now).unwrap();
        let old = JoinTokens::of(&trust).token(JoinRole::Server).unwrap().text();
        let step = Step::Rotate { grace: 60 };
        let rotated = trust.after(step, &[Secret::ServerToken], false, now).unwrap();
        let tokens = JoinTokens::of(&rotated);
        let new = tokens.token(JoinRole::Server).unwrap().text();
        assert_ne!(old, new);
        let later = now + jiff::SignedDuration::from_secs(61);
        assert_eq!(tokens.role_of(&old, now), Some(JoinRole::Server));
        assert_eq!(tokens.role_of(&old, later), None);
        assert_eq!(tokens.role_of(&new, later), Some(JoinRole::Server));
    }
}
