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
    /// The token of that secret, for a cluster whose serving CA has that hash.
    pub(super) fn new(ca_hash: &str, role: JoinRole, secret: &str) -> Self {
        Self {
            ca_hash: ca_hash.to_owned(),
            role,
            secret: secret.to_owned(),
        }
    }

    /// The token in that file, which is made if it does not exist.
    pub(super) fn open(path: &Path, role: JoinRole, ca_hash: &str) -> Result<Self, PkiError> {
        if let Some(text) = files::read(path)? {
            let why = "not a join token".to_owned();
            return Self::parse(&text).ok_or_else(|| PkiError::Malformed {
                path: path.to_owned(),
                why,
            });
        }
        let token = Self::new(ca_hash, role, &SystemRandom.hex(64));
        files::write_secret(path, format!("{}\n", token.text()).as_bytes())?;
        Ok(token)
    }

    /// What only its holders know.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

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
