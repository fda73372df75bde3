//! What the configuration of authentication says, exchanged as a whole when its file changes.

use std::sync::{Arc, PoisonError, RwLock};

use super::oidc::Issuers;
use super::oidc::config::{Anonymous, AuthenticationConfiguration};
use crate::outbound::Outbound;

/// Issuers elsewhere, and who may ask without credentials.
pub struct Known {
    /// Issuers of tokens.
    pub issuers: Issuers,
    /// Requests without credentials.
    pub anonymous: Anonymous,
}

impl Default for Known {
    fn default() -> Self {
        let anonymous = Anonymous {
            enabled: true,
            ..Anonymous::default()
        };
        Self {
            issuers: Issuers::default(),
            anonymous,
        }
    }
}

impl Known {
    /// What a configuration says; anybody may ask if it does not say.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub fn of(told: &AuthenticationConfiguration, outbound: &Outbound) -> Result<Self, String> {
        let default = Self::default();
        Ok(Self {
            issuers: Issuers::new(told, outbound)?,
            anonymous: told.anonymous.clone().unwrap_or(default.anonymous),
        })
    }
}

/// What is configured at the moment.
#[derive(Default)]
pub struct Configured {
    // A std lock: nothing awaits while it is held.
    known: RwLock<Arc<Known>>,
}

impl Configured {
    /// As it is now.
    pub fn now(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is this.
    pub fn change(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }
}
