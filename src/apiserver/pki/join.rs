//! The tokens with which servers and agents join: they name the hash of the
//! serving CA, so that the joiner knows whom to trust, and a secret.

use std::path::Path;

use base::{Random, SystemRandom};

use super::{PkiError, files};

const VERSION: &str = "coracle1";

/// As what the holder of a token may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRole {
    /// As a further server.
    Server,
    /// As a node.
    Agent,
}

impl JoinRole {
    fn name(self) -> &'static str {
        match self {
            JoinRole::Server => "server",
            JoinRole::Agent => "agent",
        }
    }
}

/// A join token taken apart: `coracle1.<SHA-256 of the serving CA>.<role>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Hexadecimal SHA-256 of the serving CA's certificate.
    pub ca_hash: String,
    /// As what its holder may join.
    pub role: JoinRole,
    secret: String,
}

impl std::fmt::Debug for JoinToken {
    /// Says nothing of the secret: this may reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("ca_hash", &self.ca_hash)
            .field("role", &self.role)
            .finish()
    }
}

impl JoinToken {
    /// Reads a token's text; `None` when it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let (version, ca_hash, role, secret) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let role = match role {
            "server" => JoinRole::Server,
            "agent" => JoinRole::Agent,
            _ => return None,
        };
        let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        let good = version == VERSION && parts.next().is_none() && hex(ca_hash, 64) && hex(secret, 64);
        good.then(|| Self {
            ca_hash: ca_hash.to_owned(),
            role,
            secret: secret.to_owned(),
        })
    }

    /// The token's text. A secret.
    pub fn text(&self) -> String {
        format!("{VERSION}.{}.{}.{}", self.ca_hash, self.role.name(), self.secret)
    }
}

/// The tokens this cluster accepts.
pub struct JoinTokens {
    server: JoinToken,
    agent: JoinToken,
}

impl JoinTokens {
    /// Reads `server-token` and `agent-token` below `dir`, or makes them.
    pub(super) fn open(dir: &Path, ca_hash: &str) -> Result<Self, PkiError> {
        Ok(Self {
            server: open(&dir.join("server-token"), JoinRole::Server, ca_hash)?,
            agent: open(&dir.join("agent-token"), JoinRole::Agent, ca_hash)?,
        })
    }

    /// The token for that role.
    pub fn token(&self, role: JoinRole) -> &JoinToken {
        match role {
            JoinRole::Server => &self.server,
            JoinRole::Agent => &self.agent,
        }
    }

    /// As what the bearer of `text` may join; `None` when it is not one of our tokens.
    pub fn role_of(&self, text: &str) -> Option<JoinRole> {
        let asked = JoinToken::parse(text)?;
        let known = self.token(asked.role);
        same(known.secret.as_bytes(), asked.secret.as_bytes()).then_some(asked.role)
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

fn open(path: &Path, role: JoinRole, ca_hash: &str) -> Result<JoinToken, PkiError> {
    if let Some(text) = files::read(path)? {
        let why = "not a join token".to_owned();
        return JoinToken::parse(&text).ok_or_else(|| PkiError::Malformed {
            path: path.to_owned(),
            why,
        });
    }
    let token = JoinToken {
        ca_hash: ca_hash.to_owned(),
        role,
        secret: SystemRandom.hex(64),
    };
    files::write_secret(path, format!("{}\n", token.text()).as_bytes())?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_their_holder_may_do() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = JoinTokens::open(dir.path(), &"a".repeat(64)).unwrap();
        let text = tokens.token(JoinRole::Agent).text();
        assert_eq!(tokens.role_of(&text), Some(JoinRole::Agent));
        assert_eq!(tokens.role_of(&text.replace(".agent.", ".server.")), None);
        assert_eq!(tokens.role_of("coracle1.x.agent.y"), None);
        assert_eq!(tokens.role_of(""), None);
        let parsed = JoinToken::parse(&text).unwrap();
        assert_eq!(parsed.ca_hash, "a".repeat(64));
        assert!(!format!("{parsed:?}").contains(&parsed.secret));
    }
}
